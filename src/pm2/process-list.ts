// PM2's own list of what it runs, read only. In: the socket `rpc.sock` of a PM2 home. Out: applications with the states of their
// processes. Guarantee: asks one question and changes nothing; an answer in time, or an error.
//
// The wire is that of the bus (bus.ts): a request is a JSON value and an id, the answer a JSON value and the same id. Answered
// is `{ args: [list] }` or `{ error }`.
import { connect } from 'node:net';
import { argumentValue, createFrameReader } from './bus.ts';

/** States of an application's processes as PM2 has them: `online`, `stopped`, `errored`, `launching` and so on. */
export type ProcessList = ReadonlyMap<string, readonly string[]>;

const ID = 'logpipe:0';

/** @throws Error when PM2 does not answer within `timeoutMs`, or with something else than its list */
export function readProcessList(socketPath: string, timeoutMs: number): Promise<ProcessList> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    const timer = setTimeout(() => fail(new Error(`PM2 has not given its list within ${timeoutMs} ms`)), timeoutMs);
    const fail = (error: Error) => {
      clearTimeout(timer);
      socket.destroy();
      reject(error);
    };
    const read = createFrameReader((args) => {
      const [answer, id] = args.map(argumentValue);
      if (id !== ID) return;
      const list = listOf(answer);
      clearTimeout(timer);
      socket.destroy();
      resolve(list);
    });
    socket.once('connect', () => {
      socket.write(frame(`j:${JSON.stringify({ type: 'call', method: 'getMonitorData', args: [{}] })}`, `s:${ID}`));
    });
    socket.on('data', (bytes) => {
      try {
        read(bytes);
      } catch (error) {
        fail(error as Error);
      }
    });
    socket.once('error', fail);
    socket.once('close', () => fail(new Error('PM2 closed the connection')));
  });
}

function frame(...args: readonly string[]): Buffer {
  const parts = [Buffer.from([0x10 | args.length])];
  for (const arg of args) {
    const bytes = Buffer.from(arg);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    parts.push(length, bytes);
  }
  return Buffer.concat(parts);
}

/** @throws Error */
function listOf(answer: unknown): ProcessList {
  const { args, error } = (answer ?? {}) as { args?: unknown; error?: unknown };
  const [list] = Array.isArray(args) ? args : [];
  if (!Array.isArray(list)) throw new Error(error === undefined ? 'PM2 gave no list' : 'PM2 refused to give its list');
  const states = new Map<string, string[]>();
  for (const one of list as readonly { name?: unknown; pm2_env?: { status?: unknown } }[]) {
    const name = one?.name;
    if (typeof name !== 'string') continue;
    states.set(name, [...(states.get(name) ?? []), String(one.pm2_env?.status)]);
  }
  return states;
}
