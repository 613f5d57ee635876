// docs/refusals.md against the closed lists of the code: it has a row for each reason, and none for a reason that is none.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { packageRoot } from '../../../src/core/package-root.ts';
import { DEAD_LETTER_REASONS } from '../../../src/core/record.ts';
import { FAILURE_REASONS, refusalOf } from '../../../src/indexing/outcome.ts';

const page = readFileSync(join(packageRoot(), 'docs/refusals.md'), 'utf8');
/** Reasons that only the intake and the sinks pause for. */
const OWN = ['dead_letters', 'sink', 'in_flight', 'set_aside'];

it('has one row for each reason', () => {
  const rows = [...page.matchAll(/^\| `([a-z_]+)` \|/gm)].map(([, reason]) => reason);
  expect(rows.sort()).toEqual([...DEAD_LETTER_REASONS, ...FAILURE_REASONS, ...OWN].sort());
});

it('names the errors that a request is taken apart for', () => {
  const paragraph = /A 400 for the whole request[\s\S]*?\n\n/.exec(page)?.[0] ?? '';
  const types = [...paragraph.matchAll(/`([a-z_]+_exception)`/g)].map(([, type]) => type!);
  expect(types.length).toBeGreaterThan(5);
  for (const type of types) {
    const reason = type === 'illegal_argument_exception' ? 'Malformed action/metadata line [1]' : 'x';
    expect([type, refusalOf({ status: 400, error: { type, reason } })]).toEqual([type, 'body']);
  }
});
