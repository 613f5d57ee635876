// A Kafka that asks for TLS: settings for one plaintext listener (the test's own), one with client certificates and one
// with passwords, and what clients need to get in. Usable with both ways of starting Kafka.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePorts } from '../../stack/index.ts';
import { createAuthority } from './certificates.ts';

export interface SecureListeners {
  /** For `startKafka`. */
  port: number;
  properties: Readonly<Record<string, string>>;
  /** TLS; requires a client certificate of our authority. */
  ssl: string[];
  /** TLS, then user and password: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512. */
  saslSsl: string[];
  /** Known to PLAIN; SCRAM users are made with `setScramPassword`. */
  user: string;
  password: string;
  /** PEM: the authority, and a client certificate it signed. */
  ca: string;
  cert: string;
  key: string;
  /** Another authority, which signed nothing here. */
  strangerCa: string;
  /** The same as files, named as the `kafka.ssl` section names them. */
  files: { caFile: string; certFile: string; keyFile: string };
  /** Removes the files. */
  remove(): void;
}

export async function secureListeners(password: string): Promise<SecureListeners> {
  const [port, sslPort, saslPort, controllerPort] = (await freePorts(4)) as [number, number, number, number];
  const authority = createAuthority();
  const server = authority.issue(['localhost', '127.0.0.1']);
  const client = authority.issue(['logpipe']);
  const at = (name: string, number: number) => `${name}://127.0.0.1:${number}`;
  const open = [at('PLAINTEXT', port), at('SSL', sslPort), at('SASL_SSL', saslPort)];
  const user = 'app';
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-secure-'));
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };
  const module = (name: string, more = '') => `org.apache.kafka.common.security.${name} required${more};`;
  return {
    port,
    properties: {
      'controller.quorum.voters': `1@127.0.0.1:${controllerPort}`,
      listeners: [...open, at('CONTROLLER', controllerPort)].join(),
      'advertised.listeners': open.join(),
      'ssl.keystore.type': 'PEM',
      'ssl.keystore.certificate.chain': oneLine(server.pem),
      'ssl.keystore.key': oneLine(server.keyPem),
      'ssl.truststore.type': 'PEM',
      'ssl.truststore.certificates': oneLine(authority.pem),
      'listener.name.ssl.ssl.client.auth': 'required',
      'sasl.enabled.mechanisms': 'PLAIN,SCRAM-SHA-256,SCRAM-SHA-512',
      'listener.name.sasl_ssl.plain.sasl.jaas.config': module('plain.PlainLoginModule', ` user_${user}="${password}"`),
      'listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config': module('scram.ScramLoginModule'),
      'listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config': module('scram.ScramLoginModule'),
    },
    ssl: [`127.0.0.1:${sslPort}`],
    saslSsl: [`127.0.0.1:${saslPort}`],
    user,
    password,
    ca: authority.pem,
    cert: client.pem,
    key: client.keyPem,
    strangerCa: createAuthority('a stranger').pem,
    files: {
      caFile: file('ca.pem', authority.pem),
      certFile: file('client.pem', client.pem),
      keyFile: file('client-key.pem', client.keyPem),
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** A line of server.properties holds it with its line ends written as `\n`. */
function oneLine(pem: string): string {
  return pem.replaceAll('\n', '\\n');
}
