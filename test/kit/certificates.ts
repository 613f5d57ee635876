// X.509 certificates for tests, made with node:crypto alone: a certificate authority and server certificates it signed.
// Encodes just what TLS clients look at (RFC 5280), in DER.
import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';

export interface Certificate {
  /** PEM, for `cert` of a TLS server or `ca` of a client. */
  pem: string;
  /** PEM (PKCS 8). */
  keyPem: string;
  /** SHA-256 of the certificate, upper-case hexadecimal with colons, as Elasticsearch prints and takes it. */
  fingerprint: string;
}

export interface Authority extends Certificate {
  /** A server certificate for these names; a name that looks like an IPv4 address becomes one. */
  issue(names: readonly string[]): Certificate;
}

const DAY_MS = 86_400_000;
const ECDSA_SHA256 = sequence(oid('1.2.840.10045.4.3.2'));

/** A new certificate authority, valid from yesterday for 30 days, as everything it issues. */
export function createAuthority(name = 'logpipe test CA'): Authority {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const own = certificate({
    subject: name,
    issuer: name,
    publicKey: keys.publicKey,
    signWith: keys.privateKey,
    // Basic constraints: an authority. Key usage: signs certificates.
    extensions: [extension('2.5.29.19', sequence(boolean(true)), true), extension('2.5.29.15', bits(0x04, 2), true)],
  });
  return {
    ...describe(own, keys.privateKey),
    issue(names) {
      const leaf = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const der = certificate({
        subject: names[0] ?? 'localhost',
        issuer: name,
        publicKey: leaf.publicKey,
        signWith: keys.privateKey,
        extensions: [
          extension('2.5.29.19', sequence()),
          extension('2.5.29.15', bits(0x80, 7), true),
          extension('2.5.29.37', sequence(oid('1.3.6.1.5.5.7.3.1'), oid('1.3.6.1.5.5.7.3.2'))),
          extension('2.5.29.17', sequence(...names.map(alternativeName))),
        ],
      });
      return describe(der, leaf.privateKey);
    },
  };
}

function certificate(parts: {
  subject: string;
  issuer: string;
  publicKey: KeyObject;
  signWith: KeyObject;
  extensions: Buffer[];
}): Buffer {
  const now = Date.now();
  // Positive and without a leading zero byte.
  const serial = randomBytes(16);
  serial[0] = (serial[0]! & 0x3f) | 0x40;
  const body = sequence(
    tagged(0xa0, tagged(0x02, Buffer.of(2))),
    tagged(0x02, serial),
    ECDSA_SHA256,
    commonName(parts.issuer),
    sequence(utcTime(now - DAY_MS), utcTime(now + 30 * DAY_MS)),
    commonName(parts.subject),
    parts.publicKey.export({ type: 'spki', format: 'der' }),
    tagged(0xa3, sequence(...parts.extensions)),
  );
  const signature = sign('sha256', body, parts.signWith);
  return sequence(body, ECDSA_SHA256, tagged(0x03, Buffer.concat([Buffer.of(0), signature])));
}

function describe(der: Buffer, key: KeyObject): Certificate {
  const base64 = der.toString('base64').replaceAll(/.{1,64}/g, '$&\n');
  const hex = createHash('sha256').update(der).digest('hex').toUpperCase();
  return {
    pem: `-----BEGIN CERTIFICATE-----\n${base64}-----END CERTIFICATE-----\n`,
    keyPem: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    fingerprint: hex.match(/../g)!.join(':'),
  };
}

/** Tag, length (short or long form), content. */
function tagged(tag: number, content: Buffer): Buffer {
  if (content.length < 0x80) return Buffer.concat([Buffer.of(tag, content.length), content]);
  const length: number[] = [];
  for (let rest = content.length; rest > 0; rest >>= 8) length.unshift(rest & 0xff);
  return Buffer.concat([Buffer.of(tag, 0x80 | length.length, ...length), content]);
}

function sequence(...parts: Buffer[]): Buffer {
  return tagged(0x30, Buffer.concat(parts));
}

function boolean(value: boolean): Buffer {
  return tagged(0x01, Buffer.of(value ? 0xff : 0));
}

function bits(value: number, unused: number): Buffer {
  return tagged(0x03, Buffer.of(unused, value));
}

function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const arc of rest) {
    const digits = [arc & 0x7f];
    for (let left = arc >> 7; left > 0; left >>= 7) digits.unshift((left & 0x7f) | 0x80);
    bytes.push(...digits);
  }
  return tagged(0x06, Buffer.from(bytes));
}

function commonName(name: string): Buffer {
  return sequence(tagged(0x31, sequence(oid('2.5.4.3'), tagged(0x0c, Buffer.from(name)))));
}

function utcTime(time: number): Buffer {
  const digits = new Date(time).toISOString().replaceAll(/[-:T]/g, '').slice(2, 14);
  return tagged(0x17, Buffer.from(`${digits}Z`));
}

function extension(id: string, value: Buffer, critical = false): Buffer {
  return sequence(oid(id), ...(critical ? [boolean(true)] : []), tagged(0x04, value));
}

function alternativeName(name: string): Buffer {
  const address = /^\d+\.\d+\.\d+\.\d+$/.test(name);
  return address ? tagged(0x87, Buffer.from(name.split('.').map(Number))) : tagged(0x82, Buffer.from(name));
}
