// elasticdump asks `GET /` for the version, which the local Elasticsearch, started from its libraries, does not answer. In: its
// address and version. Out: an address on loopback that answers that, and passes everything else on as it is.
import { once } from 'node:events';
import { Agent, createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pipeline } from 'node:stream';

export interface VersionFront {
  readonly url: string;
  stop(): void;
}

export async function startVersionFront(node: string, version: string): Promise<VersionFront> {
  const agent = new Agent({ keepAlive: true });
  const about = JSON.stringify({ version: { number: version, build_flavor: 'default' } });
  const server = createServer((incoming, outgoing) => {
    if (incoming.method === 'GET' && incoming.url === '/') {
      outgoing.setHeader('content-type', 'application/json').end(about);
      return;
    }
    const { method, headers } = incoming;
    const passed = request(new URL(incoming.url!, node), { method, headers, agent }, (reply) => {
      outgoing.writeHead(reply.statusCode!, reply.headers);
      pipeline(reply, outgoing, () => {});
    });
    passed.on('error', (error) => outgoing.destroy(error));
    pipeline(incoming, passed, () => {});
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    stop() {
      server.close();
      server.closeAllConnections();
      agent.destroy();
    },
  };
}
