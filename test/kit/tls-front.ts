// HTTPS with authentication in front of a plain Elasticsearch, which has neither without its commercial modules.
// Wrong or missing credentials get 401 as Elasticsearch words it; everything else passes through unchanged.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, request, type ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createAuthority } from './certificates.ts';

export interface TlsFrontOptions {
  /** The Elasticsearch behind it: `http://127.0.0.1:<port>`. */
  target: string;
  /** Credentials it lets in; either kind or both. */
  user?: string;
  password?: string;
  /** The encoded form that goes after `ApiKey `. */
  apiKey?: string;
}

export interface TlsFront {
  /** `https://127.0.0.1:<port>`; the certificate also names localhost. */
  url: string;
  port: number;
  /** PEM file of the authority that signed the server's certificate. */
  caFile: string;
  /** SHA-256 of that authority's certificate, upper-case hexadecimal with colons. */
  caFingerprint: string;
  /** So far: requests let through and refused. */
  requests: { passed: number; refused: number };
  /** Ends it and removes `caFile`. Repeatable. */
  stop(): Promise<void>;
}

/** Listens on a free port of 127.0.0.1 with a certificate made for this one front. */
export async function startTlsFront(options: TlsFrontOptions): Promise<TlsFront> {
  const authority = createAuthority();
  const own = authority.issue(['localhost', '127.0.0.1']);
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-tls-'));
  const caFile = join(folder, 'ca.pem');
  writeFileSync(caFile, authority.pem);
  const accepted = acceptedHeaders(options);
  const requests = { passed: 0, refused: 0 };
  // The authority's certificate goes along, because a client that pins it by fingerprint looks for it in the chain.
  const server = createServer({ key: own.keyPem, cert: own.pem + authority.pem }, (incoming, outgoing) => {
    if (!accepted.includes(incoming.headers.authorization ?? '')) {
      requests.refused++;
      return refuse(incoming, outgoing);
    }
    requests.passed++;
    return pass(options.target, incoming, outgoing);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `https://127.0.0.1:${port}`,
    port,
    caFile,
    caFingerprint: authority.fingerprint,
    requests,
    async stop() {
      rmSync(folder, { recursive: true, force: true });
      if (!server.listening) return;
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

function acceptedHeaders({ user, password, apiKey }: TlsFrontOptions): string[] {
  const headers = apiKey === undefined ? [] : [`ApiKey ${apiKey}`];
  if (user !== undefined) headers.push(`Basic ${Buffer.from(`${user}:${password ?? ''}`).toString('base64')}`);
  return headers;
}

function refuse(incoming: IncomingMessage, outgoing: ServerResponse): void {
  incoming.resume();
  const given = incoming.headers.authorization !== undefined;
  const reason = given ? 'unable to authenticate' : 'missing authentication credentials';
  const error = { type: 'security_exception', reason: `${reason} for REST request [${incoming.url}]` };
  outgoing.writeHead(401, {
    'content-type': 'application/json',
    'www-authenticate': 'Basic realm="security", charset="UTF-8", ApiKey',
    'x-elastic-product': 'Elasticsearch',
  });
  outgoing.end(JSON.stringify({ error: { root_cause: [error], ...error }, status: 401 }));
}

function pass(target: string, incoming: IncomingMessage, outgoing: ServerResponse): void {
  const { authorization: _, ...headers } = incoming.headers;
  const onward = request(new URL(incoming.url ?? '/', target), { method: incoming.method, headers }, (answer) => {
    outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(outgoing);
  });
  // The server behind it is gone: the client must see a broken connection, as it would without this front.
  onward.on('error', () => outgoing.destroy());
  incoming.pipe(onward);
}
