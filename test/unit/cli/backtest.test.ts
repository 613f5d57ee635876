// `logpipe backtest` over files: the same of an application's lines and of the documents they became.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, expect, it } from 'vitest';
import { runBacktest } from '../../../src/cli/rules.ts';
import { parseConfig } from '../../../src/config.ts';
import { silentLog } from '../../../src/core/log.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import type { BacktestResult } from '../../../src/replay/backtest.ts';
import { createRecordReader, storedText } from '../../../src/replay/record-document.ts';
import { incidentLog } from '../../kit/incident-log.ts';

const START = Date.parse('2026-01-05T10:00:00.000Z');
const CONFIG = parseConfig('', {}, 'test.yml');
const folder = mkdtempSync(join(tmpdir(), 'logpipe-backtest-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const LOG = incidentLog({ startMs: START, minutes: 8, failing: (minute) => (minute >= 3 && minute < 7 ? 0.6 : 0) });
/** As the pipeline indexes them. */
function documents(): string[] {
  const toDocument = createRecordReader(CONFIG, { masker: createMasker() });
  return LOG.map(({ line, eventId, partition, timeMs }, offset) => {
    const origin = { kind: 'kafka', topic: 'logs', partition } as const;
    const result = toDocument({ value: Buffer.from(line), offset, timeMs, eventId }, origin);
    if (!result.ok) throw new Error(result.detail);
    return storedText(result.document);
  });
}

async function backtested(...names: string[]) {
  const out: string[] = [];
  const err: string[] = [];
  const status = await runBacktest(
    names.map((name) => join(folder, name)),
    CONFIG,
    {
      ...{ from: new Date(START + 60_000).toISOString(), to: new Date(START + 480_000).toISOString(), warmUp: '1m' },
      ...{ source: 'file', tick: '10s', json: true },
    },
    { out: (line) => out.push(line), err: (line) => err.push(line) },
    { log: silentLog },
  );
  return { status, err, result: JSON.parse(out.join('\n')) as BacktestResult };
}

it('says the same of lines, of documents, and of both halves in files of their own', async () => {
  const lines = LOG.map(({ line }) => line);
  writeFileSync(join(folder, 'app.log'), lines.join('\n'));
  writeFileSync(join(folder, 'documents.ndjson.gz'), gzipSync(documents().join('\n')));
  writeFileSync(join(folder, 'odd.log'), lines.filter((_, i) => i % 2 === 1).join('\n'));
  writeFileSync(
    join(folder, 'even.ndjson'),
    documents()
      .filter((_, i) => i % 2 === 0)
      .join('\n'),
  );
  const app = await backtested('app.log');
  expect(app).toMatchObject({ status: 0, err: [] });
  expect(app.result.records).toBe(LOG.filter(({ timeMs }) => timeMs >= START + 60_000).length);
  expect(app.result.timeline.alerts.map(({ rule }) => rule)).toContain('high-error-rate');
  expect(await backtested('documents.ndjson.gz')).toEqual(app);
  expect(await backtested('odd.log', 'even.ndjson')).toEqual(app);
});
