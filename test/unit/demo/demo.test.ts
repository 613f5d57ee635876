// The demo's small parts without servers: command line, counts from metrics, results from files, the verdict.
import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { handoverLines, whatComesNext, whileItRuns } from '../../../examples/demo/handover.ts';
import { type DemoOptions, demoCommand } from '../../../examples/demo/options.ts';
import { countsIn } from '../../../examples/demo/pipeline.ts';
import { complete, finalReport } from '../../../examples/demo/report.ts';
import { createFileResults } from '../../../examples/demo/results-files.ts';
import { createScreen, type View } from '../../../examples/demo/screen.ts';
import { createMetrics } from '../../../src/core/metrics.ts';

async function optionsOf(...args: string[]): Promise<DemoOptions> {
  let options: DemoOptions | undefined;
  const command = demoCommand(async (parsed) => {
    options = parsed;
  });
  command.configureOutput({ writeErr: () => {}, writeOut: () => {} });
  await command.parseAsync(args, { from: 'user' });
  return options!;
}

test('the command line: defaults, times, incidents, and outside servers only in pairs', async () => {
  expect(await optionsOf()).toMatchObject({
    forMs: undefined,
    rate: 300,
    docker: true,
    outside: undefined,
    es: 'auto',
  });
  expect(await optionsOf('--for', '1.5m', '--json', '--no-docker')).toMatchObject({ forMs: 90_000, docker: false });
  expect((await optionsOf('--for', '8')).forMs).toBe(8000);
  expect(await optionsOf()).toMatchObject({ incident: 'provider-outage', watched: true });
  expect((await optionsOf('--no-incident')).incident).toBeUndefined();
  expect(await optionsOf('--for', '8')).toMatchObject({ incident: undefined, watched: false });
  expect((await optionsOf('--for', '8', '--incident')).incident).toBe('provider-outage');
  expect((await optionsOf('--incident', 'queue-stuck')).incident).toBe('queue-stuck');
  const outside = await optionsOf('--kafka', 'k:9092', '--elasticsearch', 'https://es:9200');
  expect(outside.outside).toEqual({ kafka: 'k:9092', elasticsearch: 'https://es:9200' });
  for (const wrong of [
    ['--for', 'soon'],
    ['--for', '0'],
    ['--rate', '0'],
    ['--kafka', 'k:9092'],
    ['--elasticsearch', 'http://es:9200'],
    ['--kafka', 'http://k', '--elasticsearch', 'http://es:9200'],
    ['--embedded', '--kafka', 'k:9092', '--elasticsearch', 'http://es:9200'],
    ['--incident', 'fire'],
  ]) {
    await expect(optionsOf(...wrong), wrong.join(' ')).rejects.toThrow();
  }
});

test('counts are read from the metrics that logpipe really serves', async () => {
  const metrics = createMetrics();
  metrics.consumed.inc(12);
  metrics.indexed.inc({ sink: 'elasticsearch' }, 7);
  metrics.indexed.inc({ sink: 'console' }, 100);
  metrics.duplicates.inc(2);
  metrics.deadLettered.inc({ reason: 'null_value' }, 1);
  metrics.deadLettered.inc({ reason: 'too_large' }, 2);
  metrics.dropped.inc({ reason: 'retention' }, 4);
  metrics.lag.set({ group: 'x-indexer', partition: '0' }, 5);
  metrics.lag.set({ group: 'x-indexer', partition: '1' }, 6);
  metrics.lag.set({ group: 'x-counter', partition: '0' }, 700);
  metrics.alertsFiring.set(2);
  expect(countsIn(await metrics.registry.metrics(), 'elasticsearch')).toEqual({
    consumed: 12,
    indexed: 7,
    duplicates: 2,
    deadLettered: 3,
    dropped: 4,
    lag: 11,
    firing: 2,
  });
});

test('results from NDJSON files: read on from the last look, half lines wait', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'logpipe-test-results-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  const results = createFileResults(join(dir, 'later'));
  expect(await results.read()).toEqual({ indices: {}, total: 0, errors: 0, templates: [] });

  const files = createFileResults(dir);
  const line = (tags: string[], template?: string) => `${JSON.stringify({ tags, error: { template }, text: 'ü' })}\n`;
  const cut = line(['error'], 'timed out after <n> ms');
  const first = join(dir, 'calling-platform-2026.01.05.ndjson');
  appendFileSync(first, line([]) + line(['error'], 'timed out after <n> ms') + cut.slice(0, 30));
  expect(await files.read()).toMatchObject({ total: 2, errors: 1 });
  appendFileSync(first, cut.slice(30));
  appendFileSync(join(dir, 'calling-platform-2026.01.06.ndjson'), line(['error'], 'declined'));
  expect(await files.read()).toEqual({
    indices: { 'calling-platform-2026.01.05': 3, 'calling-platform-2026.01.06': 1 },
    total: 4,
    errors: 3,
    templates: [
      { template: 'timed out after <n> ms', count: 2 },
      { template: 'declined', count: 1 },
    ],
  });
});

test('the verdict: dropped or missing events are no success', () => {
  const counts = { produced: 100, indexed: 98, duplicates: 3, deadLettered: 2, dropped: 0 };
  expect(complete(counts)).toBe(true);
  expect(complete({ ...counts, indexed: 97 })).toBe(false);
  expect(complete({ ...counts, produced: 101, dropped: 1 })).toBe(false);
  const report = finalReport(counts, { indices: { i: 98 }, total: 98, errors: 7, templates: [] });
  expect(report).toEqual({ ...counts, indices: { i: 98 }, errorRate: 0.0714, alerts: [] });
  expect(finalReport(counts, { indices: {}, total: 0, errors: 0, templates: [] }).errorRate).toBeNull();
});

test('the view: drawn in place on a terminal, a line every five seconds elsewhere', () => {
  let now = 0;
  let text = '';
  const view: View = {
    title: 'x',
    time: '1 s',
    rates: { produced: 1, indexed: 1 },
    totals: { produced: 1234, indexed: 1200, deadLettered: 0, duplicates: 0, dropped: 0 },
    lag: 34,
    firing: 0,
    results: { indices: { a: 10 }, total: 10, errors: 1, templates: [{ template: 'T'.repeat(200), count: 1 }] },
    latest: [],
    // The first one fills two rows exactly, and its last cell must stay.
    hints: [`curl ${'x'.repeat(111)}`, `curl ${'y'.repeat(80)}`],
    incident: undefined,
  };
  const write = (piece: string) => {
    text += piece;
  };
  const terminal = createScreen({ write, isTTY: true, columns: 60, rows: 50 }, () => now);
  terminal.show(view);
  const rows = (line: string) => Math.max(1, Math.ceil(line.replaceAll('\u001b[K', '').length / 60));
  const drawn = text
    .split('\n')
    .slice(0, -1)
    .reduce((sum, line) => sum + rows(line), 0);
  const long = text.split('\n').filter((line) => line.replaceAll(/\u001b\[[KJ]/g, '').length > 60);
  expect(long).toEqual([`    ${view.hints[0]}`, `    ${view.hints[1]}\u001b[K`]);
  text = '';
  terminal.show(view);
  expect(text.startsWith(`\u001b[${drawn}A`)).toBe(true);
  text = '';
  terminal.leave();
  terminal.show(view);
  expect(text.startsWith('\u001b[')).toBe(false);

  text = '';
  const low = createScreen({ write, isTTY: true, columns: 60, rows: 20 }, () => now);
  low.show(view);
  expect(text).not.toContain('curl');
  expect(text).toContain('Ctrl-C');
  text = '';
  low.note(view.hints);
  expect(text).toBe(`${view.hints.join('\n')}\n`);

  text = '';
  const plain = createScreen({ write, isTTY: undefined }, () => now);
  for (; now < 10_000; now += 1000) plain.show(view);
  expect(text.split('\n').filter(Boolean)).toEqual([
    '   0.0 s  produced 1,234 (1/s), indexed 1,200 (1/s), lag 34, errors 10.0 %',
    '   5.0 s  produced 1,234 (1/s), indexed 1,200 (1/s), lag 34, errors 10.0 %',
  ]);
});

test('log text on the screen does nothing to the terminal', () => {
  const written: string[] = [];
  const out = { write: (text: string) => written.push(text), isTTY: true, columns: 200, rows: 50 };
  const view: View = {
    title: 'demo',
    time: '1 s',
    rates: { produced: 1, indexed: 1 },
    totals: { produced: 1, indexed: 1, deadLettered: 0, duplicates: 0, dropped: 0 },
    lag: undefined,
    firing: 0,
    results: undefined,
    latest: ['a\u001b[2Jb\u202ec'],
    hints: [],
    incident: 'x\u009b2J',
  };
  const screen = createScreen(out, () => 0);
  screen.step('step \u001b]0;x\u0007');
  screen.show(view);
  const text = written.join('');
  expect(text).toContain('a\\u001b[2Jb\\u202ec');
  expect(text.replaceAll('\u001b[K', '').replaceAll('\u001b[J', '')).not.toMatch(
    /[\u0000-\u0009\u000e-\u001f\u007f-\u009f\u202e]/,
  );
});

test('the handover: search, metrics, log, alerts and an incident, with real addresses, at the start and at the end', () => {
  const results = { hints: () => ["curl -s 'http://127.0.0.1:29200/calling-platform-*/_search'"] };
  const running = {
    url: 'http://127.0.0.1:4',
    applicationUrl: 'http://127.0.0.1:5',
    configFile: '/d/logpipe.yml',
    results,
  };
  const lines = handoverLines('Now:', whileItRuns({ ...running, incident: undefined }));
  expect(lines).toEqual([
    '',
    'Now:',
    '  page      npx logpipe page --config /d/logpipe.yml',
    "  search    curl -s 'http://127.0.0.1:29200/calling-platform-*/_search'",
    '  metrics   curl -s http://127.0.0.1:4/metrics',
    "  figures   curl -s 'http://127.0.0.1:4/api/v1/stats?window=5m'",
    '  log       npx logpipe tail --config /d/logpipe.yml',
    '  alerts    npx logpipe alerts list --config /d/logpipe.yml',
    expect.stringContaining('curl -s http://127.0.0.1:5/admin/incident'),
    '',
  ]);
  expect(whileItRuns({ ...running, incident: 'queue-stuck' }).map(([name]) => name)).not.toContain('incident');

  const addresses = { kafka: 'k:9092', elasticsearch: 'http://es:9200' };
  const text = (mode: 'outside' | 'stack' | 'embedded', kept?: string) =>
    handoverLines('Next:', whatComesNext({ mode, ...(mode === 'outside' ? { addresses } : {}) }, results, kept)).join(
      '\n',
    );
  // The documents stay there; of its own servers nothing is left to be asked.
  expect(text('outside')).toContain("search    curl -s 'http://127.0.0.1:29200");
  expect(text('stack')).not.toContain('29200');
  for (const mode of ['outside', 'stack', 'embedded'] as const) {
    for (const what of ['npx logpipe run', '_search', '/metrics', 'npx logpipe alerts list'])
      expect(text(mode)).toContain(what);
  }
  expect(text('stack')).toContain('--incident');
  expect(text('embedded', '/kept')).toContain('ls /kept');
});
