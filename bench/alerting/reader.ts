// Reading alone, as a process of its own. In: ReaderOptions on the command line. Out: one line with what it cost.
import type { KafkaConfig } from '../../src/source/kafka/client.ts';
import { readWithKafkaJs, readWithSource } from '../intake.ts';

export interface ReaderOptions {
  readonly reader: 'bareKafkajs' | 'ownIntake';
  /** With the topic to be read as `topics.logs`. */
  readonly kafka: KafkaConfig;
  readonly events: number;
}

const { reader, kafka, events } = JSON.parse(process.argv[2]!) as ReaderOptions;
const read = reader === 'bareKafkajs' ? readWithKafkaJs : readWithSource;
process.stdout.write(`${JSON.stringify(await read(kafka, events))}\n`);
