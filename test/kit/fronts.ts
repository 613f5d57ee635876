// A TCP front for each broker of a cluster that can be cut: either nothing comes through although connections stay, or connections
// are refused. Clients of other fronts notice nothing.
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { freePorts, type MemberPorts } from '../../stack/index.ts';
import { atEnd } from './at-end.ts';

/** `hole`: as behind a firewall that drops everything; what was written meanwhile arrives later, as with TCP. */
export type Cut = 'hole' | 'refused';

export interface Fronts {
  /** The brokers' addresses through this front. */
  readonly brokers: readonly string[];
  cut(how: Cut): Promise<void>;
  heal(): Promise<void>;
}

/**
 * Fronts for `brokers` brokers that are not started yet, by name (capitals), and the settings each broker must be started with,
 * numbered from 1. They end with the test or the file.
 */
export async function planFronts<Name extends string>(
  brokers: number,
  names: readonly Name[],
): Promise<{
  readonly fronts: Readonly<Record<Name, Fronts>>;
  properties(node: number, ports: MemberPorts): Record<string, string>;
}> {
  const inner = await freePorts(brokers * names.length);
  const ways = await Promise.all(
    names.map(async (name, way) => {
      const targets = inner.slice(way * brokers, (way + 1) * brokers);
      return { name, targets, fronts: await Promise.all(targets.map((target) => startFront(target))) };
    }),
  );
  const each = (fronts: readonly Front[], work: (front: Front) => Promise<void>) =>
    Promise.all(fronts.map(work)).then(() => undefined);
  const entries = ways.map(({ name, fronts }) => {
    const way: Fronts = {
      brokers: fronts.map(({ port }) => `127.0.0.1:${port}`),
      cut: (how) => each(fronts, (front) => front.cut(how)),
      heal: () => each(fronts, (front) => front.heal()),
    };
    return [name, way] as const;
  });
  const at = (name: string, port: number) => `${name}://127.0.0.1:${port}`;
  return {
    fronts: Object.fromEntries(entries) as Record<Name, Fronts>,
    properties: (node, { port, innerPort }) => ({
      'listener.security.protocol.map': ['PLAINTEXT', 'CONTROLLER', ...names].map((name) => `${name}:PLAINTEXT`).join(),
      listeners: [
        at('PLAINTEXT', port),
        at('CONTROLLER', innerPort),
        ...ways.map(({ name, targets }) => at(name, targets[node - 1]!)),
      ].join(),
      'advertised.listeners': [
        at('PLAINTEXT', port),
        ...ways.map(({ name, fronts }) => at(name, fronts[node - 1]!.port)),
      ].join(),
    }),
  };
}

interface Front {
  readonly port: number;
  cut(how: Cut): Promise<void>;
  heal(): Promise<void>;
}

async function startFront(target: number): Promise<Front> {
  const sockets = new Set<Socket>();
  let cut: Cut | undefined;

  function keep(socket: Socket, other: () => Socket): void {
    sockets.add(socket);
    // Before the listener, which would set it flowing.
    if (cut === 'hole') socket.pause();
    socket
      .on('data', (bytes) => other().write(bytes))
      .on('error', () => {})
      .once('end', () => other().end())
      .once('close', () => {
        sockets.delete(socket);
        other().destroy();
      });
  }

  const server = createServer((client) => {
    const broker = connect(target, '127.0.0.1');
    keep(client, () => broker);
    keep(broker, () => client);
  });
  const listen = (port: number) => new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const close = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve());
      for (const socket of sockets) socket.destroy();
    });
  await listen(0);
  const { port } = server.address() as AddressInfo;
  atEnd(async () => {
    if (server.listening) await close();
  });
  return {
    port,
    async cut(how) {
      cut = how;
      if (how === 'refused') await close();
      else for (const socket of sockets) socket.pause();
    },
    async heal() {
      if (cut === 'refused') await listen(port);
      cut = undefined;
      for (const socket of sockets) socket.resume();
    },
  };
}
