// Results from Elasticsearch: counts and aggregations over the live log indices, of this demo's topic only.
import { LogpipeError } from '../../src/core/errors.ts';
import { type Results, type ResultsReader, TOP_TEMPLATES } from './results.ts';
import { withoutPassword } from './servers.ts';

const INDICES = 'calling-platform-*';

interface Answer {
  hits?: { total: { value: number } };
  aggregations?: {
    indices: { buckets: Bucket[] };
    errors: { doc_count: number; templates: { buckets: Bucket[] } };
  };
}

interface Bucket {
  key: string;
  doc_count: number;
}

/** `topic`: the log topic of this demo, which every document names. */
export function createElasticsearchResults(address: string, topic: string): ResultsReader {
  const base = withoutPassword(address);
  const headers = { 'content-type': 'application/json', ...authorization(address) };
  const post = async (path: string, body?: object): Promise<unknown> => {
    const response = await fetch(`${base}/${path}`, {
      method: 'POST',
      headers,
      body: body ? JSON.stringify(body) : null,
      signal: AbortSignal.timeout(10_000),
    });
    if (response.ok) return response.json();
    throw new LogpipeError('LOGPIPE_ES_REFUSED', `${base}/${path.split('?')[0]} answered ${response.status}`);
  };
  const search = {
    size: 0,
    track_total_hits: true,
    query: { term: { 'kafka.topic': topic } },
    aggs: {
      indices: { terms: { field: '_index', size: 10 } },
      errors: {
        filter: { term: { tags: 'error' } },
        aggs: { templates: { terms: { field: 'error.template', size: TOP_TEMPLATES } } },
      },
    },
  };
  return {
    async read({ fresh = false } = {}): Promise<Results> {
      if (fresh) await post(`${INDICES}/_refresh`);
      const answer = (await post(`${INDICES}/_search`, search)) as Answer;
      const { indices, errors } = answer.aggregations ?? {};
      const counts = (indices?.buckets ?? []).map(({ key, doc_count }) => [key, doc_count] as const);
      return {
        indices: Object.fromEntries(counts.sort(([a], [b]) => a.localeCompare(b))),
        total: answer.hits?.total.value ?? 0,
        errors: errors?.doc_count ?? 0,
        templates: (errors?.templates.buckets ?? []).map(({ key, doc_count }) => ({ template: key, count: doc_count })),
      };
    },
    hints: () => [`curl -s '${base}/${INDICES}/_search?q=tags:error&sort=@timestamp:desc&size=3&pretty'`],
  };
}

function authorization(address: string): Record<string, string> {
  const { username, password } = new URL(address);
  if (username === '') return {};
  const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return { authorization: `Basic ${Buffer.from(pair).toString('base64')}` };
}
