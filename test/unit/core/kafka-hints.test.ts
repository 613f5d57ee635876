// The words for failed connections. Which broker causes which error is proven in test/integration/transport-tls.test.ts.
import { createRequire } from 'node:module';
import { expect, test } from 'vitest';
import { explainConnection } from '../../../src/core/kafka/broker-connections.ts';

const errors = createRequire(import.meta.url)('kafkajs/src/errors') as Record<
  string,
  new (
    from: unknown,
    details?: object,
  ) => Error
>;
const made = (name: string, from: unknown, details: object = {}) => new errors[name]!(from, details);
const connection = (message: string, code?: string) => made('KafkaJSConnectionError', message, { code, broker: 'b:1' });

test.each([
  [made('KafkaJSSASLAuthenticationError', 'SASL PLAIN authentication failed'), /failed; check kafka\.sasl$/],
  [made('KafkaJSConnectionClosedError', 'Closed connection'), /TLS \(kafka\.ssl\) or a login \(kafka\.sasl\)$/],
  [
    connection('unable to verify the first certificate', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'),
    /not trusted: check kafka\.ssl$/,
  ],
  [connection('certificate has expired', 'CERT_HAS_EXPIRED'), /not trusted/],
  [connection("Hostname/IP does not match certificate's altnames", 'ERR_TLS_CERT_ALTNAME_INVALID'), /not trusted/],
  [
    connection('connect ECONNREFUSED 127.0.0.1:9092', 'ECONNREFUSED'),
    /^connect ECONNREFUSED 127\.0\.0\.1:9092; nothing listens there$/,
  ],
  [made('KafkaJSProtocolError', { message: 'Request is not valid', type: 'ILLEGAL_SASL_STATE' }), /nobody logs in/],
  [new Error('something else'), /^something else$/],
  ['no error at all', /^no error at all$/],
])('%s', (error, text) => {
  expect(explainConnection(error, 'kafka.')).toMatch(text);
  const wrapped = made('KafkaJSNumberOfRetriesExceeded', error, { retryCount: 5, retryTime: 1 });
  expect(explainConnection(wrapped, 'kafka.')).toMatch(text);
});

test('of OpenSSL’s words only what they say is left', () => {
  const error = connection(
    'Connection error: 809C:error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required:../a.c:1601:SSL alert number 116\n',
    'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED',
  );
  expect(explainConnection(error)).toBe(
    'Connection error: TLS: tlsv13 alert certificate required; the broker wants a client certificate it can trust: check ssl',
  );
});
