// docs/demo.svg is the demo's own screen: what is read out of a terminal is what was drawn last, and the picture in the README has
// every line that the screen has today.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createScreen, type View } from '../../../examples/demo/screen.ts';
import { lastPicture, terminalSvg } from '../../../scripts/demo-picture.ts';
import { packageRoot } from '../../../src/core/package-root.ts';

const view: View = {
  title: 'Kafka and Elasticsearch',
  time: '12 s, 48 s left',
  rates: { produced: 500, indexed: 498 },
  totals: { produced: 6_000, indexed: 5_990, deadLettered: 1, duplicates: 0, dropped: 0 },
  lag: 10,
  firing: 0,
  results: undefined,
  latest: [],
  hints: [`logpipe alerts list --config ${'folder/'.repeat(14)}logpipe.yml`],
  incident: undefined,
};

function drawn(...views: View[]): string {
  let written = '';
  const screen = createScreen({ write: (text) => (written += text), isTTY: true, columns: 100, rows: 40 }, () => 0);
  screen.step('Starting');
  for (const one of views) screen.show(one);
  screen.step('Ending');
  return written;
}

test('the newest picture with an alert is read out of what a terminal got', () => {
  const lines = lastPicture(drawn(view, { ...view, firing: 2, lag: 77 }, { ...view, firing: 0, lag: 3 }));
  const text = lines.join('\n');
  expect(text).toMatch(/^logpipe demo/);
  expect(text).toContain('lag 77');
  expect(text).toContain('2 firing');
  // Blank lines are blank, and what a narrow terminal breaks into two rows moves nothing.
  expect(lines[1]).toBe('');
  expect(lines.filter((line) => line.includes('2 firing'))).toHaveLength(1);
  expect(text).not.toMatch(/Starting|Ending|\u001b/);
  expect(lastPicture(drawn(view)).join('\n')).toContain('lag 10');
  expect(terminalSvg(['a <b> & c'])).toContain('a &lt;b&gt; &amp; c');
});

test('the README’s picture has the lines of today’s screen, an alert, and nothing of the machine it was made on', () => {
  const picture = readFileSync(join(packageRoot(), 'docs', 'demo.svg'), 'utf8');
  const label = /^ {2}[a-z][a-z/ ]*?(?= {2}|$)/;
  const labels = lastPicture(drawn({ ...view, hints: [] })).flatMap((line) => label.exec(line)?.[0].trim() ?? []);
  expect(labels).toEqual(
    expect.arrayContaining(['events/s', 'in all', 'error rate', 'alerts', 'documents', 'top errors']),
  );
  for (const one of labels) expect(picture).toContain(`  ${one}`);
  expect(picture).toMatch(/alerts +\d+ firing/);
  expect(picture).not.toContain(packageRoot());
  expect(picture).not.toMatch(/\/tmp\/|in another terminal/);
});
