// Why a connection to Kafka failed, in words an operator can act on. In: what kafkajs threw. Out: its text and what to check.
// Guarantee: nothing of the configuration is repeated, so no secret either.
import { errorText } from './errors.ts';

/** Codes of Node for a certificate that was looked at and not believed. */
const UNTRUSTED = /CERT|VERIFY_LEAF|SELF_SIGNED|ALTNAME/;
/** How OpenSSL words things: an address, a number, then the text between the last colons. */
const OPENSSL = /(?:[0-9A-F]+:)?error:[0-9A-F]+:SSL routines:[^:]*:([^:]+):[^\n]*\n?/;

/**
 * @param section Where `ssl` and `sasl` are written, for example `kafka.`
 * @returns the error's own text when nothing is known about it
 */
export function explainConnection(error: unknown, section = ''): string {
  const text = errorText(error).replace(OPENSSL, 'TLS: $1');
  const hint = hintOf(error, text, section);
  return hint === undefined ? text : `${text}; ${hint}`;
}

function hintOf(error: unknown, text: string, section: string): string | undefined {
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    const { name, type, code } = at as Error & { type?: string; code?: unknown };
    if (name === 'KafkaJSSASLAuthenticationError') return `check ${section}sasl`;
    if (type === 'ILLEGAL_SASL_STATE') return `nobody logs in at this port: check the port and ${section}sasl`;
    if (name === 'KafkaJSConnectionClosedError') {
      return `the broker hung up without an answer: it stopped, or expects TLS (${section}ssl) or a login (${section}sasl)`;
    }
    if (name !== 'KafkaJSConnectionError') continue;
    if (/alert (?:certificate|bad certificate|unknown ca|handshake)/.test(text)) {
      return `the broker wants a client certificate it can trust: check ${section}ssl`;
    }
    if (UNTRUSTED.test(String(code)) || /certificate (?:has expired|is not)|verify the first/.test(text)) {
      return `the broker’s certificate is not trusted: check ${section}ssl`;
    }
    if (/before secure TLS connection|wrong version number|packet length too long/.test(text)) {
      return `there is no TLS at this port: check the port and ${section}ssl`;
    }
  }
  return undefined;
}
