// Health of the Elasticsearch cluster as a number: 0 green, 1 yellow, 2 red, 3 no answer.
import type { Client } from '@elastic/elasticsearch';
import type { Probe } from './reading.ts';

const STATUS: Readonly<Record<string, number>> = { green: 0, yellow: 1, red: 2 };
/** No answer is an answer here: it is what the alert is about. */
const UNREACHABLE = 3;

export function createElasticsearchProbe(client: Client): Probe {
  return {
    name: 'elasticsearch',
    async run(signal) {
      const value = await client.transport
        .request<{ status?: string }>(
          { method: 'GET', path: '/_cluster/health', querystring: { filter_path: 'status' } },
          { signal },
        )
        .then(
          ({ status }) => STATUS[status ?? ''] ?? UNREACHABLE,
          () => UNREACHABLE,
        );
      return [{ measure: 'elasticsearch.status', labels: {}, value }];
    },
    close: () => client.close(),
  };
}
