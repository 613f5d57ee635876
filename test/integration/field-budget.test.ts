// The field limit of a real index: one record cannot use it up, and what the server ignores beyond it is seen.
import { expect, it } from 'vitest';
import { createLedger } from '../kit/ledger.ts';
import { waitFor } from '../kit/servers.ts';

const DAY_MS = 86_400_000;

it('1,500 keys in one record leave room for others; a full index is told, and takes no new field', async () => {
  const ledger = await createLedger();
  // A day of its own, which no other test writes to.
  const at = new Date(Date.now() - 23 * DAY_MS).toISOString();
  const index = `calling-platform-${at.slice(0, 10).replaceAll('-', '.')}`;
  const ask = async (method: string, path: string, body?: unknown) => {
    const reply = await fetch(`${ledger.esUrl}/${index}${path}`, {
      method,
      headers: { 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return (await reply.json()) as Record<string, never>;
  };
  const found = async (field: string, value: string) => {
    await ask('POST', '/_refresh');
    const { hits } = (await ask('POST', '/_search', { query: { term: { [field]: value } } })) as unknown as {
      hits: { hits: { _source: Record<string, unknown> }[] };
    };
    return hits.hits.map(({ _source }) => _source);
  };
  const record = (more: object) =>
    Buffer.from(
      JSON.stringify({ timestamp: at, level: 'info', message: 'call answered', service: ledger.service, ...more }),
    );
  const keys = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, `v${i}`]));

  const pipeline = ledger.start();
  await pipeline.waitForLine(/"message":"running"/);
  await ledger.produceRaw([record({ payload: keys(1_500) })]);
  await ledger.settled();
  await ledger.produceRaw([record({ lateField: 'late' })]);
  await ledger.settled();
  expect(await found('lateField', 'late')).toHaveLength(1);
  const [flood] = await found('extra.payload.k7', 'v7');
  expect(flood).toMatchObject({ tags: ['_mapping_degraded'], message: 'call answered' });
  expect(Object.keys(flood!.extra as object)).toHaveLength(500);
  expect(flood!.extraRaw).toMatch(/"payload\.k500":"v500"/);
  expect(String(flood!.extraRaw).length).toBeLessThanOrEqual(8_192);
  pipeline.kill('SIGTERM');
  expect((await pipeline.exit).status).toBe(0);

  // Somebody else fills it, and beyond: the server says so in `_ignored` alone.
  await ask('PUT', '/_doc/filler?refresh=true', { '@timestamp': at, filler: keys(1_200) });
  const again = ledger.start();
  const { url } = JSON.parse(await again.waitForLine(/"message":"running"/)) as { url: string };
  await ledger.produceRaw([record({ message: 'first sight' })]);
  await ledger.settled();
  const ready = () => fetch(`${url}/ready`).then(async (reply) => ({ status: reply.status, text: await reply.text() }));
  await waitFor(async () => (await ready()).text.includes('beyond the field limit are not searchable'), {
    what: 'told',
  });
  expect(await ready()).toMatchObject({ status: 200, text: expect.stringContaining(`${index}: `) });
  expect(await (await fetch(`${url}/metrics`)).text()).toMatch(/^logpipe_ignored_fields [1-9]\d*$/m);
  await ledger.produceRaw([record({ newField: 'new', lateField: 'again' })]);
  await ledger.settled();
  expect(await found('extra.newField', 'new')).toMatchObject([{ lateField: 'again', extra: { newField: 'new' } }]);
  expect(again.stderr()).toContain('Elasticsearch ignores new fields');
});
