// An application of numbered events that keeps in a spool what Kafka does not take:
// `spooling-app.js '{"name":"a","brokers":[…],"topic":"…","service":"…","spool":{…},"perSecond":100}'`. Standard output, written at once, so
// that nothing is lost with the process: `logged <name>-<n>` for the last event of each turn, `stats {…}` each second. A line on standard
// input: `rest` ends the load, `exit` logs once more and exits at once, `close` closes the transport and ends.
import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import winston from 'winston';
import { KafkaTransport, type KafkaTransportOptions } from '../../src/ship/index.ts';

const TICK_MS = 50;

interface Options
  extends Pick<KafkaTransportOptions, 'brokers' | 'topic' | 'service' | 'spool' | 'queue' | 'closeTimeoutMs'> {
  readonly name: string;
  readonly perSecond: number;
}

const { name, perSecond, ...options } = JSON.parse(process.argv[2]!) as Options;
const transport = new KafkaTransport(options);
const logger = winston.createLogger({ format: winston.format.json(), transports: [transport] });
const say = (line: string) => writeSync(1, `${line}\n`);

let logged = 0;
function log(): void {
  const n = logged++;
  logger.info(`event ${n}`, { requestId: `${name}-${n}`, ...(n % 2 === 0 ? { callId: `CA${n % 40}` } : {}) });
}
const ticking = setInterval(() => {
  for (let i = 0; i < (perSecond * TICK_MS) / 1_000; i++) log();
  say(`logged ${logged}`);
}, TICK_MS);
const stats = () => say(`stats ${JSON.stringify({ ...transport.stats(), logged, rss: process.memoryUsage.rss() })}`);
setInterval(stats, 1_000);

createInterface({ input: process.stdin }).on('line', (line) => {
  if (line === 'exit') {
    log();
    say(`logged ${logged}`);
    process.exit();
  }
  clearInterval(ticking);
  if (line !== 'close') return;
  void transport.close().then((result) => {
    say(`closed ${JSON.stringify(result)}`);
    process.exit();
  });
});
