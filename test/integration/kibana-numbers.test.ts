// What Kibana's charts count, on a real Elasticsearch: log lines go through logpipe's own parser and tagger into daily
// indices, each layer of each shipped chart is run as the search it stands for, and every number is compared with one that is
// counted here from the lines. A stretch without any event, two days, filters of the dashboard's controls, rare errors.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Client } from '@elastic/elasticsearch';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { installAlertsTemplate } from '../../src/alerter/history.ts';
import { createLineParser } from '../../src/cli/parse.ts';
import { parseConfig } from '../../src/config.ts';
import { silentLog } from '../../src/core/log.ts';
import { packageRoot } from '../../src/core/package-root.ts';
import { createElasticsearchClient, installTemplate } from '../../src/indexing/elasticsearch.ts';
import type { SavedObject } from '../../src/kibana/check.ts';
import { kqlQuery, type LensContext, type LensLayer, OTHER, type Row, runLensLayer } from '../kit/lens-query.ts';
import { type SearchServer, serveSearch } from '../kit/search-server.ts';
import { testEsMajors, testEsUrlOf } from '../kit/servers.ts';

const BUCKET_MS = 15 * 60_000;
const BUCKETS = 12;
/** Nothing at all was logged in it. */
const SILENT_BUCKET = 5;
const FROM_MS = Date.parse('2001-02-03T22:30:00.000Z');
const TO_MS = FROM_MS + BUCKETS * BUCKET_MS;
const BAR_MS = 50;
const INDICES = ['calling-platform-2001.02.03', 'calling-platform-2001.02.04'];
const ALERT_INDEX = 'logpipe-alerts-2001.02';

interface Line {
  readonly atMs: number;
  readonly environment: string;
  readonly level: string;
  readonly message: string;
  /** What becomes of an error's message. */
  readonly template?: string;
  readonly status?: string;
  readonly durationMs?: number;
}

const FAULTS = [
  'alpha',
  'bravo',
  'charlie',
  'delta',
  'echo',
  'foxtrot',
  'golf',
  'hotel',
  'india',
  'juliett',
  'kilo',
  'lima',
];
const STATUSES = ['completed', 'completed', 'completed', 'voicemail', 'busy', 'failed', 'no-answer', 'completed'];
const LINES = lines();
const isError = ({ level }: Line) => level === 'error' || level === 'fatal';

/** Frequent and rare errors, of two severities; durations with an empty bar between the fast and the slow. */
function lines(): Line[] {
  const all: Line[] = [];
  for (let bucket = 0; bucket < BUCKETS; bucket += 1) {
    if (bucket === SILENT_BUCKET) continue;
    const startMs = FROM_MS + bucket * BUCKET_MS;
    const add = (n: number, line: Omit<Line, 'atMs' | 'environment'>) =>
      all.push({ atMs: startMs + n * 7_000 + 1, environment: n % 3 === 0 ? 'staging' : 'production', ...line });
    for (let n = 0; n < 40; n += 1) {
      const durationMs = n % 10 === 9 ? 640 + ((n * 13 + bucket * 7) % 90) : 5 + ((n * 37 + bucket * 11) % 190);
      add(n, { level: 'info', message: 'request', durationMs });
    }
    for (let n = 0; n < 9 + (bucket % 4); n += 1) {
      add(n, { level: 'info', message: 'call ended', status: STATUSES[(n + bucket) % STATUSES.length]! });
    }
    for (let n = 0; n < 3 + 2 * (bucket % 5); n += 1) {
      const fault = FAULTS[Math.min(FAULTS.length - 1, Math.floor((n * n + bucket) / 7))]!;
      const template = `Fault ${fault} after <n> ms`;
      add(n, { level: n % 4 === 3 ? 'fatal' : 'error', message: template.replace('<n>', String(100 + n)), template });
    }
  }
  return all;
}

/** As Winston writes it. */
function json({ atMs, environment, level, message, status, durationMs }: Line): string {
  const timestamp = new Date(atMs).toISOString();
  const call = { direction: 'outbound', status, durationMs: 1_000, attempt: 1 };
  const http = { method: 'GET', route: '/api/v1/calls', status: 200, durationMs };
  return JSON.stringify({
    ...{ timestamp, level, message, environment, service: 'api' },
    ...(status === undefined ? {} : { event: 'call.ended', callId: `CA${atMs}`, call }),
    ...(durationMs === undefined ? {} : { event: 'http.request', http }),
  });
}

const OBJECTS = new Map(
  readFileSync(join(packageRoot(), 'kibana/calling-platform.ndjson'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as SavedObject)
    .map((object) => [object.id, object]),
);

describe.each(testEsMajors())('on Elasticsearch %s', (major) => {
  let client: Client;
  let page: SearchServer;

  beforeAll(async () => {
    const config = { nodes: [await testEsUrlOf(major)], requestTimeoutMs: 30_000, installTemplate: true };
    client = createElasticsearchClient(config);
    page = await serveSearch({ elasticsearch: config });
    await installTemplate(client, silentLog);
    await installAlertsTemplate(client, silentLog);
    await client.indices.delete({ index: [...INDICES, ALERT_INDEX], ignore_unavailable: true });
    const parseLine = createLineParser(parseConfig('', {}, 'test'));
    const documents = LINES.map((line, offset) => {
      const record = { value: Buffer.from(json(line)), offset, timeMs: line.atMs, eventId: undefined };
      const { index, document } = parseLine(record, { kind: 'file', path: 'app.log', identity: 'app.log' });
      return { index: index!, document: document! };
    });
    const alerts = ALERTS.map((source) => ({ index: ALERT_INDEX, document: source }));
    const operations = [...documents, ...alerts].flatMap(({ index, document }) => [
      { index: { _index: index } },
      document,
    ]);
    const reply = await client.bulk({ refresh: true, operations });
    expect(reply.errors).toBe(false);
    expect([...new Set(documents.map(({ index }) => index))]).toEqual(INDICES);
  });

  afterAll(async () => {
    await client.indices.delete({ index: [...INDICES, ALERT_INDEX], ignore_unavailable: true });
    await page.close();
    await client.close();
  });

  /** Rows of one layer of a shipped chart, under what is chosen in the dashboard's controls. */
  async function rows(
    chart: string,
    layerId: string,
    chosen: Readonly<Record<string, string>> = {},
    widths = { timeBucketMs: BUCKET_MS, numberBucket: BAR_MS },
  ): Promise<Row[]> {
    const lens = OBJECTS.get(`calling-platform-${chart}`)!;
    const { state } = lens.attributes as { state: { query: { query: string }; datasourceStates: FormBased } };
    const view = OBJECTS.get(lens.references.find(({ name }) => name.endsWith(`-layer-${layerId}`))!.id)!.attributes;
    const context: LensContext = {
      ...{ client, index: view.title as string, timeField: view.timeFieldName as string },
      ...{ fromMs: FROM_MS, toMs: TO_MS, ...widths },
      filters: [kqlQuery(state.query.query), ...controlFilters(chosen)],
    };
    return runLensLayer(state.datasourceStates.formBased.layers[layerId]!, context);
  }

  describe.each<[string, Readonly<Record<string, string>>, (line: Line) => boolean]>([
    ['everything', {}, () => true],
    ['production alone', { environment: 'production' }, ({ environment }) => environment === 'production'],
    ['staging alone', { environment: 'staging' }, ({ environment }) => environment === 'staging'],
  ])('%s', (_, chosen, taken) => {
    const seen = LINES.filter(taken);

    it('error rate over time: each bucket, a gap where nothing was logged', async () => {
      const found = await rows('error-rate', 'rate', chosen);
      const expected = Array.from({ length: BUCKETS }, (_, n) => {
        const time = FROM_MS + n * BUCKET_MS;
        const within = seen.filter(({ atMs }) => atMs >= time && atMs < time + BUCKET_MS);
        const errors = within.filter(isError).length;
        const all = within.length;
        return {
          time,
          rate: all === 0 ? null : errors / all,
          rateX0: errors,
          rateX1: all,
          rateX2: all === 0 ? null : errors / all,
        };
      });
      expect(found).toEqual(expected);
      expect(expected.filter(({ rate }) => rate === null).map(({ time }) => time)).toEqual([
        FROM_MS + SILENT_BUCKET * BUCKET_MS,
      ]);
      expect(new Set(expected.map(({ rate }) => rate)).size).toBeGreaterThan(4);
    });

    it('top error messages: ten templates by frequency, and the others', async () => {
      const counted = tally(seen.filter(isError).map(({ template }) => template!));
      const [top, others] = [counted.slice(0, 10), counted.slice(10)];
      const rest = others.reduce((sum, [, count]) => sum + count, 0);
      const found = await rows('top-errors', 'errors', chosen);
      expect(Object.fromEntries(found.map(({ template, count }) => [template, count]))).toEqual({
        ...Object.fromEntries(top),
        ...(rest === 0 ? {} : { [OTHER]: rest }),
      });
      expect(descending(found.slice(0, top.length).map(({ count }) => count as number))).toBe(true);
    });

    it('call status distribution: each status, most frequent first', async () => {
      const found = await rows('call-status', 'calls', chosen);
      const counted = tally(seen.flatMap(({ status }) => (status === undefined ? [] : [status])));
      expect(Object.fromEntries(found.map(({ status, count }) => [status, count]))).toEqual(
        Object.fromEntries(counted),
      );
      expect(descending(found.map(({ count }) => count as number))).toBe(true);
      expect(found.length).toBe(5);
    });

    it('response times: each bar, empty ones between, and the percentiles', async () => {
      const times = seen
        .flatMap(({ durationMs }) => (durationMs === undefined ? [] : [durationMs]))
        .sort((a, b) => a - b);
      const found = await rows('response-time', 'requests', chosen);
      const [first, last] = [times[0]!, times.at(-1)!].map((ms) => Math.floor(ms / BAR_MS)) as [number, number];
      const bars = Array.from({ length: last - first + 1 }, (_, n) => (first + n) * BAR_MS);
      expect(found).toEqual(
        bars.map((duration) => ({
          duration,
          count: times.filter((ms) => ms >= duration && ms < duration + BAR_MS).length,
        })),
      );
      expect(found.filter(({ count }) => count === 0).length).toBeGreaterThan(3);

      const [lines] = await rows('response-time', 'percentiles', chosen);
      expect(Object.keys(lines!).sort()).toEqual(['p50', 'p95', 'p99']);
      for (const percent of [50, 95, 99]) {
        // Elasticsearch estimates: within 2 % of the ranks.
        const at = (share: number) => times[Math.max(0, Math.min(times.length - 1, Math.round(share * times.length)))]!;
        const value = lines![`p${percent}`] as number;
        expect(value, `p${percent}`).toBeGreaterThanOrEqual(at(percent / 100 - 0.02));
        expect(value, `p${percent}`).toBeLessThanOrEqual(at(percent / 100 + 0.02));
      }
    });

    it('the page has the same numbers, and each part of a chart the logs it counted', async () => {
      const stretch = { from: new Date(FROM_MS).toISOString(), to: new Date(TO_MS).toISOString() };
      const { json: charts } = await page.charts({ ...stretch, ...chosen });
      const bars = charts.responseTimes;
      const widths = {
        timeBucketMs: charts.step * 1_000,
        numberBucket: bars[1]!.fromMs - bars[0]!.fromMs,
      };
      expect(charts.errorRate.map(({ at, rate, total, errors }) => [Date.parse(at), errors, total, rate])).toEqual(
        (await rows('error-rate', 'rate', chosen, widths)).map(({ time, rateX0, rateX1, rate }) => [
          time,
          rateX0,
          rateX1,
          rate,
        ]),
      );
      expect(new Set(charts.errorRate.map(({ rate }) => rate)).size).toBeGreaterThan(3);
      const names = ({ label, count }: { label: string; count: number }) => [
        label === 'all other messages' ? OTHER : label,
        count,
      ];
      expect(Object.fromEntries(charts.topErrors.map(names))).toEqual(
        Object.fromEntries(
          (await rows('top-errors', 'errors', chosen)).map(({ template, count }) => [template, count]),
        ),
      );
      expect(Object.fromEntries(charts.callStatus.map(names))).toEqual(
        Object.fromEntries((await rows('call-status', 'calls', chosen)).map(({ status, count }) => [status, count])),
      );
      expect(bars.map(({ fromMs, count }) => [fromMs, count])).toEqual(
        (await rows('response-time', 'requests', chosen, widths)).map(({ duration, count }) => [duration, count]),
      );
      expect(bars.length).toBeGreaterThan(10);
      for (const { query, count, label } of [...charts.topErrors, ...charts.callStatus, ...bars]) {
        expect((await page.search({ ...stretch, ...chosen, q: query })).json.total, `${label}: ${query}`).toBe(count);
      }
    });

    it('alerts over time: each when it began to fire, by title', async () => {
      const fired = ALERTS.filter(
        ({ transition, environment }) => transition === 'firing' && taken({ environment } as Line),
      );
      const found = await rows('alert-timeline', 'alerts', chosen);
      const counted = tally(fired.map((alert) => `${alert.alert.title}@${bucketOf(Date.parse(alert['@timestamp']))}`));
      const shown = found
        .filter(({ count }) => count !== 0)
        .map(({ title, time, count }) => [`${title}@${time}`, count]);
      expect(Object.fromEntries(shown)).toEqual(Object.fromEntries(counted));
      // Empty buckets are shown too: each title has the whole stretch.
      for (const title of new Set(found.map((row) => row.title))) {
        expect(found.filter((row) => row.title === title).map(({ time }) => time)).toEqual(
          Array.from({ length: BUCKETS }, (_, n) => FROM_MS + n * BUCKET_MS),
        );
      }
    });
  });

  it('the seeded errors are of more than ten templates, so that there are others', () => {
    expect(tally(LINES.filter(isError).map(({ template }) => template!)).length).toBe(FAULTS.length);
  });

  it('level error in the control makes the rate 100 %, without what is more severe, and shows no alert', async () => {
    const found = await rows('error-rate', 'rate', { level: 'error' });
    expect([...new Set(found.map(({ rate }) => rate))].sort()).toEqual([1, null]);
    const counted = found.reduce((sum, { rateX1 }) => sum + (rateX1 as number), 0);
    expect(counted).toBe(LINES.filter(({ level }) => level === 'error').length);
    expect(await rows('alert-timeline', 'alerts', { level: 'error' })).toEqual([]);
  });

  it('the list of errors holds each error, newest first, with its columns', async () => {
    const { attributes, references } = OBJECTS.get('calling-platform-errors')!;
    const { columns, sort, kibanaSavedObjectMeta } = attributes as unknown as {
      columns: string[];
      sort: [string, 'asc' | 'desc'][];
      kibanaSavedObjectMeta: { searchSourceJSON: string };
    };
    const source = JSON.parse(kibanaSavedObjectMeta.searchSourceJSON) as { query: { query: string } };
    const view = OBJECTS.get(references[0]!.id)!.attributes;
    const time = { range: { [view.timeFieldName as string]: { gte: FROM_MS, lt: TO_MS, format: 'epoch_millis' } } };
    const reply = await client.search({
      index: view.title as string,
      size: 1_000,
      query: { bool: { filter: [time, kqlQuery(source.query.query)] } },
      sort: sort.map(([field, order]) => ({ [field]: { order } })),
      fields: columns,
      _source: false,
    });
    const found = reply.hits.hits.map(({ fields }) => ({ level: fields!.level[0], message: fields!.message[0] }));
    const errors = LINES.filter(isError);
    expect(found.length).toBe(errors.length);
    expect(tally(found.map(({ level, message }) => `${level} ${message}`)).sort()).toEqual(
      tally(errors.map(({ level, message }) => `${level} ${message}`)).sort(),
    );
    const times = reply.hits.hits.map(({ sort: by }) => by![0] as number);
    expect(descending(times)).toBe(true);
  });
});

interface FormBased {
  readonly formBased: { readonly layers: Readonly<Record<string, LensLayer>> };
}

/** What the dashboard's controls add to every panel, by the fields they are saved with. */
function controlFilters(chosen: Readonly<Record<string, string>>) {
  const { controlGroupInput } = OBJECTS.get('calling-platform-overview')!.attributes as {
    controlGroupInput: { panelsJSON: string };
  };
  const controls = JSON.parse(controlGroupInput.panelsJSON) as Record<string, { explicitInput: { fieldName: string } }>;
  return Object.entries(chosen).map(([id, value]) => ({
    bool: {
      should: [{ match_phrase: { [controls[id]!.explicitInput.fieldName]: value } }],
      minimum_should_match: 1,
    },
  }));
}

/** Transitions of alerts as the history writes them; one fires again within its cooldown. */
const ALERTS = [
  ...transitions('High Error Rate Detected', 'production', [0, 4, 4, 11]),
  ...transitions('Queue backlog', 'production', [4, 6]),
  ...transitions('Queue backlog', 'staging', [6, 7, 7]),
];

function transitions(title: string, environment: string, buckets: readonly number[]) {
  return buckets.flatMap((bucket, n) =>
    ['pending', 'firing', 'reopened', 'notified', 'resolved'].map((transition, step) => ({
      '@timestamp': new Date(FROM_MS + bucket * BUCKET_MS + n * 60_000 + step * 1_000).toISOString(),
      transition,
      environment,
      alert: { title, rule: title.toLowerCase().replaceAll(' ', '-') },
    })),
  );
}

function bucketOf(atMs: number): number {
  return FROM_MS + Math.floor((atMs - FROM_MS) / BUCKET_MS) * BUCKET_MS;
}

/** Most frequent first, and by name among equals, as Elasticsearch orders them. */
function tally(values: readonly string[]): [string, number][] {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort(([a, one], [b, other]) => other - one || (a < b ? -1 : 1));
}

function descending(values: readonly number[]): boolean {
  return values.every((value, i) => i === 0 || value <= values[i - 1]!);
}
