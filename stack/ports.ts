// Free local ports for servers that have to know their port before they start.
import { createServer } from 'node:net';

// Below the range the kernel takes outgoing connections' ports from (32768 up on Linux), so that a port that is free
// now is not taken by somebody's client a second later.
const FIRST = 20_000;
const LAST = 32_000;

/** True when 127.0.0.1:`port` can be listened on right now. */
export function portFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

/** `count` distinct ports of 127.0.0.1 that are free now. */
export async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST));
    if (await portFree(port)) ports.add(port);
  }
  return [...ports];
}
