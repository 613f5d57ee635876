// A hold says when first-seen rules know as many kinds as they can: from then on a new error is no news.
import { expect, test } from 'vitest';
import { beginHold } from '../../../src/alerts/hold.ts';
import { silentLog } from '../../../src/core/log.ts';
import { createMasker } from '../../../src/core/mask.ts';
import { createMetrics } from '../../../src/core/metrics.ts';
import { ERROR_TEMPLATE_VERSION } from '../../../src/tag/template.ts';
import { createFakeClock } from '../../kit/fake-clock.ts';

test.each([
  [0, 0],
  [10_000, 0.5],
  [20_000, 1],
])('%d kinds known', async (count, share) => {
  const said: string[] = [];
  const metrics = createMetrics();
  const initial = new Map(
    Array.from({ length: count }, (_, i) => {
      const key = `error.templates/fault ${i}`;
      return [`template/${key}`, { key, firstMs: 0, quiet: true, templates: ERROR_TEMPLATE_VERSION }] as const;
    }),
  );
  const hold = beginHold(
    { measures: new Map(), rules: [], environment: 'test', tickMs: 1_000, coveredFromMs: 0, rollups: [] },
    {
      store: { initial, commit: async () => {}, confirm: async () => {}, close: async () => {} },
      results: new Map(),
      channels: new Map(),
      history: undefined,
      clock: createFakeClock(Date.parse('2026-01-05T10:00:00Z')),
      log: { ...silentLog, error: (message) => void said.push(message) },
      metrics,
      masker: createMasker(),
      onLost: () => {},
      onTick: () => {},
    },
  );
  expect((await metrics.firstSeenUsed.get()).values[0]?.value).toBe(share);
  expect(said).toHaveLength(share === 1 ? 1 : 0);
  await hold.stop(0);
});
