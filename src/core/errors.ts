// The closed list of error codes. Codes become metric labels and exit messages, so they are never built from input.
// docs/errors.md lists exactly these (a test compares them).
export const ERROR_CODES = {
  LOGPIPE_CONFIG_INVALID: 'The configuration was refused; every problem is listed with its path.',
  LOGPIPE_CONFIG_UNREADABLE: 'A configuration or secret file could not be read.',
  LOGPIPE_USAGE: 'The command line was not understood.',
  LOGPIPE_KAFKA_UNREACHABLE: 'No broker answered.',
  LOGPIPE_KAFKA_FAILED: 'Kafka refused an operation for good.',
  LOGPIPE_ES_UNREACHABLE: 'No Elasticsearch node answered.',
  LOGPIPE_ES_REFUSED: 'Elasticsearch answered with an error.',
  LOGPIPE_ES_INCOMPLETE: 'Elasticsearch answered with only part of what was asked for.',
  LOGPIPE_TEMPLATE_NEWER: 'The installed index template is newer than this logpipe.',
  LOGPIPE_ALERT_STATE_NEWER: 'The alert state was written by a newer logpipe, in a format that this one does not know.',
  LOGPIPE_FORMAT_NEWER: 'A file or record was written by a newer logpipe, in a format that this one does not know.',
  LOGPIPE_KIBANA_UNREACHABLE: 'Kibana did not answer.',
  LOGPIPE_KIBANA_REFUSED: 'Kibana answered with an error, or something that is not Kibana answered in its place.',
  LOGPIPE_KIBANA_OBJECTS: 'Saved objects were found to be wrong before anything was sent; every problem is listed.',
  LOGPIPE_SINK_FAILED: 'A file or console sink could not write.',
  LOGPIPE_SOURCE_FAILED: 'A file or standard input could not be read, or an address could not be listened at.',
  LOGPIPE_FOLDER_UNUSABLE: 'A folder or file that logpipe writes cannot be used.',
  LOGPIPE_FAULT: 'Something failed in a way that logpipe does not know: probably a fault of its own.',
  LOGPIPE_SHUTDOWN_FORCED: 'Shutdown ran into its deadline; unfinished records will be delivered again.',
  LOGPIPE_STACK_MISSING: 'Something the local servers need is not installed.',
  LOGPIPE_STACK_FAILED: 'A local server did not start.',
  LOGPIPE_TRANSPORT_OPTIONS: 'The transport was constructed with options it cannot use.',
  LOGPIPE_TRANSPORT_CLOSED: 'A record was logged after the transport had been closed.',
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

/** Every error logpipe throws on purpose: a code of the closed list, a message with place, value and fix, and a cause. */
export class LogpipeError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'LogpipeError';
    this.code = code;
  }
}

/**
 * What a newer logpipe has written is not guessed at.
 * @param what for people, with its place: "dlq/0/17: the dead letter"
 * @param version as it was read; whatever is not a number counts as a format of before there were versions
 * @throws LogpipeError LOGPIPE_FORMAT_NEWER, or the given code
 */
export function refuseNewer(
  what: string,
  version: unknown,
  known: number,
  code: ErrorCode = 'LOGPIPE_FORMAT_NEWER',
): void {
  if (typeof version !== 'number' || !(version > known)) return;
  throw new LogpipeError(
    code,
    `${what} has format ${version}, written by a newer logpipe; this one knows ${known}. Upgrade this instance, or follow “going back” in that version's changelog`,
  );
}

/** The error itself, then what caused it, and so on; 8 at most, for a chain may lead back to itself. */
export function* causeChain(error: unknown): Generator<Error> {
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) yield at;
}

/** Problems for the end of a message, each on a line of its own. */
export function listOfProblems(problems: readonly string[]): string {
  return problems.map((problem) => `  - ${problem}`).join('\n');
}

/** The text of any thrown value, without assuming it is an Error. */
export function errorText(error: unknown): string {
  if (error instanceof Error) return error.message || error.name;
  try {
    return String(error);
  } catch {
    return 'unprintable error';
  }
}

/** What Node's codes of system errors mean; whatever is not here is said as the system says it. */
const SYSTEM_ERRORS: Readonly<Record<string, string>> = {
  EACCES: 'this user may not do that there',
  EADDRINUSE: 'another program listens at this port already',
  EADDRNOTAVAIL: 'this machine does not have that address',
  EAI_AGAIN: 'the name cannot be looked up at present',
  EBUSY: 'something else is using it',
  ECONNREFUSED: 'nothing listens there',
  ECONNRESET: 'the other side hung up',
  EDQUOT: 'the disk quota of this user is used up',
  EEXIST: 'something else of that name is there',
  EFBIG: 'the file is larger than the file system takes',
  EHOSTUNREACH: 'no way leads to that machine',
  EIO: 'the disk fails',
  EISDIR: 'it is a folder, not a file',
  ELOOP: 'its links lead round in a circle',
  EMFILE: 'this process has as many files open as it may',
  ENAMETOOLONG: 'the name is too long',
  ENETUNREACH: 'no way leads to that network',
  ENFILE: 'this machine has as many files open as it can',
  ENOENT: 'there is no such file or folder',
  ENOSPC: 'the disk is full',
  ENOTDIR: 'a file stands where a folder should be',
  ENOTEMPTY: 'the folder is not empty',
  ENOTFOUND: 'nobody knows a machine of that name',
  EPERM: 'the system does not permit that',
  EPIPE: 'whoever read it has gone',
  EROFS: 'the file system is read-only',
  ETIMEDOUT: 'nobody answered in time',
};

/** Why something failed, for people: a system error in words, with its code to search for; any other by its own text. */
export function reasonInWords(error: unknown): string {
  const code = error instanceof Error ? String((error as NodeJS.ErrnoException).code) : '';
  return Object.hasOwn(SYSTEM_ERRORS, code) ? `${SYSTEM_ERRORS[code]}, ${code}` : errorText(error);
}

/** The system error in the chain of causes, when it is one that has words here. */
export function systemReason(error: unknown): { readonly code: string; readonly words: string } | undefined {
  for (const at of causeChain(error)) {
    const { code } = at as NodeJS.ErrnoException;
    if (typeof code === 'string' && Object.hasOwn(SYSTEM_ERRORS, code)) return { code, words: SYSTEM_ERRORS[code]! };
  }
  return undefined;
}
