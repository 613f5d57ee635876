// Starts a Kafka and an Elasticsearch bound to this process, prints where they are as one JSON line, and holds on.
// For tests that look at what is left when this process is killed.
import { startElasticsearch, startKafka } from '../../stack/index.ts';

const [kafka, elasticsearch] = await Promise.all([startKafka(), startElasticsearch({ heap: '512m' })]);
const servers = [kafka, elasticsearch].map(({ pid, port, dataDir }) => ({ pid, port, dataDir }));
console.log(JSON.stringify(servers));
setInterval(() => undefined, 60_000);
