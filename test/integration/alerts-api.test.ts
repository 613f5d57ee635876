// The alerts over HTTP with Kafka: an instance that only indexes is asked and commanded, another one decides. Whoever asks sees the
// effect within two seconds; when the instance that decides is killed, what was given meanwhile is carried out by its successor.
import { expect, it, onTestFinished } from 'vitest';
import { createAlerting } from '../kit/alerting.ts';
import type { LogpipeProcess } from '../kit/process.ts';
import { waitFor } from '../kit/servers.ts';

const TOKEN = 'a-token-of-the-operators';

interface Answer {
  readonly status: number;
  readonly ms: number;
  readonly json: {
    readonly commandId?: string;
    readonly done?: boolean;
    readonly changed?: boolean;
    readonly incident?: { readonly state: string };
    readonly incidents?: readonly { readonly id: string; readonly state: string }[];
  };
}

async function instanceOf(child: LogpipeProcess) {
  const { url } = JSON.parse(await child.waitForLine(/"message":"running"/)) as { url: string };
  const ask = async (path: string, init: RequestInit = {}): Promise<Answer> => {
    const beganMs = performance.now();
    const response = await fetch(`${url}${path}`, init);
    const json = (await response.json()) as Answer['json'];
    return { status: response.status, ms: performance.now() - beganMs, json };
  };
  const headers = { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' };
  return {
    get: (path: string) => ask(path),
    post: (path: string, body: object = {}) => ask(path, { method: 'POST', headers, body: JSON.stringify(body) }),
  };
}

it('any instance takes a command; none is lost when the one that decides is killed', { timeout: 180_000 }, async () => {
  const kit = await createAlerting({ http: `, tokens: [{ name: ops, token: ${TOKEN}, scopes: [read, act] }]` });
  const indexer = await instanceOf(kit.start('indexer'));
  const deciding = kit.start('counter,alerter');
  const alerter = await instanceOf(deciding);
  const end = kit.calls(50, () => 5);
  onTestFinished(end);
  await kit.slack.received(1);

  const alerts = await indexer.get('/api/v1/alerts');
  expect(alerts.json).toMatchObject({ incidents: [{ state: 'firing', title: 'High Error Rate Detected' }] });
  const { id } = alerts.json.incidents![0]!;
  expect((await alerter.get('/api/v1/rates')).status).toBe(200);
  expect((await indexer.get('/api/v1/rates')).status).toBe(503);

  const acknowledged = await indexer.post(`/api/v1/incidents/${id}/acknowledge`, { by: 'ada' });
  expect(acknowledged).toMatchObject({ status: 200, json: { changed: true, incident: { state: 'acknowledged' } } });
  expect(acknowledged.ms).toBeLessThan(2_500);
  expect((await alerter.get('/api/v1/alerts')).json).toMatchObject({
    incidents: [{ state: 'acknowledged', acknowledged: { by: 'ada, by token ops', via: 'api' } }],
  });
  const again = await alerter.post(`/api/v1/incidents/${id}/acknowledge`, { by: 'ben' });
  expect(again).toMatchObject({ status: 200, json: { changed: false } });

  deciding.kill('SIGKILL');
  await deciding.exit;
  const given = await indexer.post(`/api/v1/incidents/${id}/resolve`);
  expect(given).toMatchObject({ status: 202, json: { done: false } });
  expect(given.ms).toBeLessThan(2_500);
  const command = `/api/v1/commands/${given.json.commandId}`;
  expect((await indexer.get(command)).json.done).toBe(false);

  const successor = await instanceOf(kit.start('counter,alerter'));
  await waitFor(async () => (await indexer.get(command)).json.done === true, { what: 'the command is carried out' });
  expect((await indexer.get(command)).json).toMatchObject({ changed: true });
  for (const one of [indexer, successor]) {
    const { json } = await one.get('/api/v1/alerts?state=all');
    expect(json.incidents?.find((incident) => incident.id === id)?.state).toMatch(/^(?:quiet|resolved)$/);
  }
});
