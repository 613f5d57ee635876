// A script that logs, works a little longer, and simply comes to its end: `log-and-end.js <broker> <topic>`.
import winston from 'winston';
import { KafkaTransport } from '../../src/ship/index.ts';

const [, , broker, topic] = process.argv;
const transport = new KafkaTransport({ brokers: [broker!], topic: topic!, service: 'script' });
const logger = winston.createLogger({ format: winston.format.json(), transports: [transport] });
transport.once('delivered', () => process.stdout.write('delivered\n'));
logger.info('the only record');
// Longer than the transport's first batch takes, so that it is connected and idle when the script ends.
setTimeout(() => logger.info('the last record'), 1_000);
