// The ways this platform fails, as error objects the way libraries throw them: a name, a code, a message with the
// particulars in it, often a cause.

export class PlatformError extends Error {
  readonly code: string;
  /** Status of the answer to an HTTP request that runs into it. */
  readonly httpStatus: number;

  constructor(name: string, code: string, message: string, options: { httpStatus?: number; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = name;
    this.code = code;
    this.httpStatus = options.httpStatus ?? 500;
  }
}

export function providerUnavailable(provider: string, callId: string): PlatformError {
  const message = `Provider ${provider} answered 503 Service Unavailable for call ${callId}`;
  return new PlatformError('ProviderError', 'PROVIDER_UNAVAILABLE', message, { httpStatus: 503 });
}

export function providerTimeout(provider: string, callId: string, timeoutMs: number): PlatformError {
  const cause = new PlatformError('SocketError', 'ETIMEDOUT', `read ETIMEDOUT after ${timeoutMs} ms`);
  const message = `Provider ${provider} did not answer within ${timeoutMs} ms for call ${callId}`;
  return new PlatformError('ProviderTimeoutError', 'PROVIDER_TIMEOUT', message, { httpStatus: 504, cause });
}

export function carrierRejected(phone: string): PlatformError {
  return new PlatformError('CarrierError', 'CARRIER_REJECTED', `Carrier rejected the call to ${phone}: 603 Decline`);
}

export function mediaLost(callId: string): PlatformError {
  return new PlatformError('MediaStreamError', 'MEDIA_LOST', `Media stream of call ${callId} ended without a hang-up`);
}

export function poolExhausted(system: string, size: number, timeoutMs: number): PlatformError {
  const message = `Timed out after ${timeoutMs} ms waiting for one of ${size} ${system} connections`;
  return new PlatformError('PoolTimeoutError', 'POOL_TIMEOUT', message);
}

export function statementFailed(system: string, what: string): PlatformError {
  const cause = new PlatformError('SocketError', 'ECONNRESET', 'read ECONNRESET');
  const message = `${system} failed to run "${what}": connection closed`;
  return new PlatformError('DatabaseError', 'CONNECTION_CLOSED', message, { cause });
}

export function queueFull(queue: string, limit: number): PlatformError {
  const message = `Queue "${queue}" holds ${limit} jobs and takes no more`;
  return new PlatformError('QueueFullError', 'QUEUE_FULL', message, { httpStatus: 503 });
}
