// The platform's own visitors: real HTTP requests to it, as many as it takes to log `rate` events per second.
// In: the wanted rate and the number of events logged so far; out: requests. Guarantee: at most `maxOpen` at a time.
import { Agent, request } from 'node:http';
import type { Clock } from '../../src/core/clock.ts';
import type { Random } from './random.ts';

export interface TrafficOptions {
  /** Where the platform listens: `http://127.0.0.1:<port>` */
  url: string;
  /** Events per second that the platform should log. */
  rate: number;
  /** At most this many requests at a time; further ones are not sent. */
  maxOpen: number;
}

export interface Traffic {
  start(): void;
  /** Sends nothing more; resolves when the last request has been answered. */
  stop(): Promise<void>;
}

const TICK_MS = 50;
/** How many events one request causes sooner or later, until that has been measured. */
const FIRST_GUESS = 3;
/** After a pause of the process, no more than this is caught up on. */
const MAX_BURST_SECONDS = 0.5;

export function createTraffic(
  options: TrafficOptions,
  deps: { clock: Clock; random: Random; logged: () => number },
): Traffic {
  const { clock, random } = deps;
  const { hostname, port } = new URL(options.url);
  const agent = new Agent({ keepAlive: true, maxSockets: options.maxOpen });
  const recent: string[] = [];
  let cancel = () => {};
  let last = 0;
  let credit = 0;
  let sent = 0;
  let atStart = 0;
  let open = 0;
  let running = false;
  let drained = () => {};

  const tick = () => {
    const now = clock.now();
    const seconds = Math.min((now - last) / 1000, MAX_BURST_SECONDS);
    last = now;
    credit += (seconds * options.rate) / eventsPerRequest();
    for (; credit >= 1; credit--) if (open < options.maxOpen) send();
    cancel = clock.after(TICK_MS, tick);
  };
  /** Measured over the whole run and kept within sane bounds, because calls end seconds after their request. */
  const eventsPerRequest = () => {
    const weight = 500;
    const measured = (deps.logged() - atStart + FIRST_GUESS * weight) / (sent + weight);
    return Math.min(Math.max(measured, 1), 6);
  };
  const send = () => {
    const kind = random.weighted({ call: 40, look: 45, health: 14, typo: 1 });
    sent++;
    if (kind === 'health') return go('GET', '/api/v1/health');
    if (kind === 'typo') return go('GET', `/api/v1/calls/CA${random.hex(6)}`);
    if (kind === 'look' && recent.length > 0) return go('GET', `/api/v1/calls/${random.pick(recent)}`);
    const tenant = Math.floor(random.between(1, 9));
    const order = {
      direction: random.chance(0.4) ? 'inbound' : 'outbound',
      tenantId: `tenant-${tenant}`,
      campaignId: `campaign-${tenant}-${Math.floor(random.between(1, 4))}`,
      userId: `user-${tenant}-${Math.floor(random.between(1, 20))}`,
    };
    return go('POST', '/api/v1/calls', JSON.stringify(order));
  };
  const go = (method: string, path: string, body?: string) => {
    open++;
    const closed = () => {
      open--;
      if (open === 0) drained();
    };
    const headers = body === undefined ? {} : { 'content-type': 'application/json' };
    const outgoing = request({ agent, hostname, port, method, path, headers }, (response) => {
      let answer = '';
      response.setEncoding('utf8').on('data', (piece: string) => {
        answer += piece;
      });
      response.once('close', () => {
        if (method === 'POST') remember(answer);
      });
    });
    outgoing.once('close', closed);
    // A refused connection is the platform's problem, not the visitor's.
    outgoing.once('error', () => undefined);
    outgoing.end(body);
  };
  const remember = (answer: string) => {
    const id = /"id":"(\w+)"/.exec(answer)?.[1];
    if (id === undefined) return;
    if (recent.length >= 200) recent.shift();
    recent.push(id);
  };

  return {
    start() {
      running = true;
      last = clock.now();
      atStart = deps.logged();
      tick();
    },
    async stop() {
      if (!running) return;
      running = false;
      cancel();
      if (open > 0) {
        await new Promise<void>((resolve) => {
          drained = resolve;
        });
      }
      agent.destroy();
    },
  };
}
