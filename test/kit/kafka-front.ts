// A Kafka whose clients go through a front that can lose or delay the request that ends a transaction, or its answer.
import { connect, createServer, type Socket } from 'node:net';
import { freePorts } from '../../stack/index.ts';
import { startKafka } from './servers.ts';

const END_TXN = 26;

/**
 * What happens to the next EndTxn: `answer` lets it through and loses everything that comes back on its connection;
 * `request` loses it and what follows; `late` does the same until `deliver` is called.
 */
export type Loss = 'answer' | 'request' | 'late';

export interface KafkaFront {
  /** Through the front. */
  readonly brokers: string[];
  lose(loss: Loss): void;
  /** The request that was held back reaches the broker now; resolves when the broker has answered it. */
  deliver(): Promise<void>;
}

/** Ends with the test. */
export async function startKafkaFront(): Promise<KafkaFront> {
  const [plain, inner, controller] = (await freePorts(3)) as [number, number, number];
  let loss: Loss | undefined;
  let held: (() => Promise<void>) | undefined;
  const sockets = new Set<Socket>();

  const server = createServer((client) => {
    const broker = connect(inner, '127.0.0.1');
    let dead: Loss | undefined;
    let pending = Buffer.alloc(0);
    for (const socket of [client, broker]) {
      sockets.add(socket);
      socket.on('error', () => {}).once('close', () => sockets.delete(socket));
    }
    client.on('data', (bytes) => {
      pending = Buffer.concat([pending, bytes]);
      while (pending.length >= 6 && pending.length >= 4 + pending.readInt32BE(0)) {
        const frame = pending.subarray(0, 4 + pending.readInt32BE(0));
        pending = pending.subarray(frame.length);
        if (dead !== undefined) continue;
        if (loss !== undefined && frame.readInt16BE(4) === END_TXN) {
          dead = loss;
          loss = undefined;
          held = () =>
            new Promise((resolve) => {
              broker.once('data', () => resolve());
              broker.write(frame);
            });
          if (dead !== 'answer') continue;
        }
        broker.write(frame);
      }
    });
    broker.on('data', (bytes) => dead === undefined && client.write(bytes));
    broker.once('close', () => client.destroy());
    // A client that gives up does not take back what it has sent.
    client.once('close', () => dead === undefined && broker.destroy());
  });

  const at = (name: string, port: number) => `${name}://127.0.0.1:${port}`;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const kafka = await startKafka({
    port: plain,
    properties: {
      'controller.quorum.voters': `1@127.0.0.1:${controller}`,
      'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,FRONT:PLAINTEXT,CONTROLLER:PLAINTEXT',
      listeners: [at('PLAINTEXT', plain), at('FRONT', inner), at('CONTROLLER', controller)].join(),
      'advertised.listeners': [at('PLAINTEXT', plain), at('FRONT', port)].join(),
    },
  });
  const stop = kafka.stop;
  kafka.stop = async () => {
    server.close();
    for (const socket of sockets) socket.destroy();
    await stop();
  };
  return {
    brokers: [`127.0.0.1:${port}`],
    lose(next) {
      loss = next;
      held = undefined;
    },
    async deliver() {
      await held?.();
    },
  };
}
