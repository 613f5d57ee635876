// The page as people meet it, in a real Chromium: the demo's incident arrives, is acknowledged there, its logs are read and replayed; on a
// desk and on a phone, by keyboard, with hostile logs. Set LOGPIPE_PICTURES to a folder to keep the screenshots of the docs.
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { DemoReport } from '../../examples/demo/report.ts';
import {
  accessibilityProblems,
  DESKTOP,
  openPage,
  overflow,
  PHONE,
  startBrowser,
  type Watched,
} from '../kit/browser.ts';
import { spawnLogpipe, spawnScript, testBrokers, testEsUrl, waitFor } from '../kit/servers.ts';

const VIEWS = ['now', 'alerts', 'logs', 'pipeline', 'replay', 'on-call'] as const;
const pictures = process.env.LOGPIPE_PICTURES;

async function picture(page: Page, name: string): Promise<void> {
  if (pictures !== undefined) await page.screenshot({ path: join(pictures, `page-${name}.png`), fullPage: true });
}

/** As people get there: by the navigation. */
async function goTo(page: Page, view: (typeof VIEWS)[number]): Promise<void> {
  const names = {
    now: 'Now',
    alerts: 'Alerts',
    logs: 'Logs',
    pipeline: 'Pipeline',
    replay: 'Replay',
    'on-call': 'On call',
  };
  await page.getByRole('navigation', { name: 'Views' }).getByRole('link', { name: names[view] }).click();
  await page.locator(`main[data-view="${view}"]`).waitFor();
}

async function expectSound({ page, problems }: Watched, where: string): Promise<void> {
  expect(await accessibilityProblems(page), where).toEqual([]);
  expect(await overflow(page), `${where}: wider than the window`).toBe(0);
  expect(problems, where).toEqual([]);
}

test('the demo’s incident is seen at once, acknowledged there, read and replayed; on a desk and on a phone', async () => {
  const [broker] = testBrokers() as [string];
  const servers = ['--kafka', broker, '--elasticsearch', testEsUrl()];
  const demo = spawnScript('examples/demo/main.js', ['--for', '240s', '--incident', '--json', ...servers]);
  const address = (await demo.waitForLine(/http:\/\/127\.0\.0\.1:\d+\/#once=/, 120_000)).trim();
  const browser = await startBrowser();
  const desk = await openPage(browser, address);
  const { page } = desk;
  await page.locator('.connection[data-state="live"]').waitFor();
  // Whoever reads the address over a shoulder, or finds it in a history, has nothing.
  expect(page.url()).not.toContain('once');

  // It is seen within five seconds of the message that would wake somebody.
  await demo.waitForLine(/PagerDuty would get \(trigger\)/, 120_000);
  await page.locator('.verdict h2', { hasText: /firing/ }).waitFor({ timeout: 5_000 });
  const incident = page.getByRole('link', { name: /High Error Rate Detected/ }).first();
  await incident.click();
  await page.getByLabel('Your name').fill('ada');
  await page.getByRole('button', { name: 'Acknowledge' }).click();
  await page.getByText('Acknowledged: it is yours').waitFor();
  await demo.waitForLine(/PagerDuty would get \(acknowledge\)/);
  await page.getByText('ada, by token page').first().waitFor();
  await expectSound(desk, 'an incident');
  await picture(page, 'alerts');
  await goTo(page, 'now');
  await page.locator('[data-chart="Error rate"] canvas').waitFor();
  await page.locator('[data-figure="errors"][data-state="bad"]').waitFor();
  await page.locator('[data-chart="Error rate"]').getByText('High Error Rate Detected').first().waitFor();
  await expectSound(desk, 'now');

  // Its logs: as they come, then those of before.
  await goTo(page, 'logs');
  await page.getByRole('link', { name: 'Live', exact: true }).click();
  await page.locator('.lines li').nth(10).waitFor();
  await page.getByLabel('error', { exact: true }).check();
  await page.waitForURL(/level=error/);
  await page.locator('.lines li.is-error').first().waitFor();
  expect(await page.locator('.lines li:not(.is-error)').count()).toBe(0);
  await expectSound(desk, 'live logs');
  await page.getByLabel('error', { exact: true }).uncheck();
  await page.getByRole('link', { name: 'History' }).click();
  await page
    .getByText(/^(?:At least )?[\d,]+ events?/)
    .first()
    .waitFor();
  await page.getByLabel('Query').fill('event: call.ended and call.status: failed');
  await page.keyboard.press('Enter');
  await page.waitForURL(/q=/);
  await page.locator('.lines li').first().waitFor();
  await expectSound(desk, 'history');
  await picture(page, 'logs');
  await page.locator('.lines a').first().click();
  const event = page.getByRole('complementary', { name: 'Event' });
  await event.locator('table').waitFor();
  const link = page.url();
  await event.getByRole('link', { name: 'Everything of this call' }).click();
  await page.waitForURL(/order=asc/);
  await page.locator('.lines li').nth(1).waitFor();
  expect(await page.getByLabel('Query').inputValue()).toMatch(/^callId: "/);
  // A link that somebody sent leads to the same event.
  await page.goto(link);
  await event.locator('table').waitFor();
  await page.keyboard.press('Escape');
  await event.waitFor({ state: 'detached' });

  // Replayed, into an index of its own.
  await goTo(page, 'replay');
  const replay = page.getByRole('region', { name: 'Replay', exact: true });
  await replay.getByRole('group', { name: 'Into' }).getByRole('button').nth(1).click();
  await replay.getByLabel('Name', { exact: true }).fill(`page${process.pid}`);
  await replay.getByRole('button', { name: 'Plan' }).click();
  await replay.getByText('would be written').waitFor({ timeout: 90_000 });
  await picture(page, 'replay');
  await replay.getByRole('button', { name: 'Start' }).click();
  await replay
    .getByText(/[\d,]+ written/)
    .first()
    .waitFor({ timeout: 90_000 });
  await expectSound(desk, 'replay');
  for (const view of ['pipeline', 'on-call'] as const) {
    await goTo(page, view);
    await expectSound(desk, view);
    await picture(page, view);
  }

  // On a phone, at night, without a token: it reads, and acts on nothing.
  const phone = await openPage(browser, `${new URL(address).origin}/`, { viewport: PHONE, colorScheme: 'dark' });
  await phone.page.locator('.connection[data-state="live"]').waitFor();
  for (const view of VIEWS) {
    await goTo(phone.page, view);
    await expectSound(phone, `${view} on a phone`);
    await picture(phone.page, `phone-${view}`);
  }
  await phone.page.goto(`${new URL(address).origin}/?view=alerts&state=all`);
  await phone.page
    .getByRole('link', { name: /High Error Rate Detected/ })
    .first()
    .click();
  await phone.page.getByRole('button', { name: 'Enter a token' }).first().waitFor();
  expect(await phone.page.getByRole('button', { name: 'Acknowledge' }).count()).toBe(0);
  expect([...desk.problems, ...phone.problems]).toEqual([]);

  // Nobody was told after that: acknowledged in time, the secondary never heard of it.
  await demo.waitForLine(/PagerDuty would get \(resolve\)/, 120_000);
  await goTo(page, 'now');
  await page.locator('[data-chart="Error rate"]').getByText('High Error Rate Detected').first().waitFor();
  await picture(page, 'now');
  demo.kill('SIGINT');
  await demo.exit;
  const { alerts } = JSON.parse(demo.stdout()) as DemoReport;
  // PagerDuty's later events have no title.
  const told = alerts
    .filter(({ channel, what }) => channel === 'pagerduty' || what.includes('High Error Rate Detected'))
    .map(({ channel, action }) => `${channel} ${action}`);
  expect(told.filter((message) => message === 'slack trigger')).toHaveLength(1);
  expect(told).toEqual(expect.arrayContaining(['pagerduty acknowledge', 'pagerduty resolve', 'slack resolve']));
}, 400_000);

describe('without Kafka and Elasticsearch, with logs that mean harm', () => {
  const HOSTILE = [
    '<img src=x onerror="alert(1)">',
    '"><script>document.title="taken"</script>',
    'javascript:alert(1)',
    '\u202egnp.exe\u0007\u001b[2J',
    `${'w'.repeat(400)} {{constructor.constructor("alert(1)")()}}`,
  ];

  test('they are shown as what they are; by keyboard alone; what is lacking says why', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'logpipe-page-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const log = join(folder, 'app.log');
    const line = (i: number) => {
      const text = HOSTILE[i % HOSTILE.length]!;
      const error = { name: text, message: text, stack: text };
      return `${JSON.stringify({ timestamp: new Date().toISOString(), level: 'error', message: text, service: text, environment: text, callId: text, tenantId: text, event: text, error })}\n`;
    };
    writeFileSync(log, Array.from({ length: 60 }, (_, i) => line(i)).join(''));
    const rules = join(folder, 'rules.yml');
    writeFileSync(
      rules,
      `rules:
  harm:
    title: '${HOSTILE[0]}'
    priority: P1
    group: harm
    kind: threshold
    measure: log.errors
    labels: [tenantId]
    window: 1m
    above: 0
    runbook: 'javascript:alert(1)'
    message: '${HOSTILE[1]} {value}'
`,
    );
    const measures = join(folder, 'measures.yml');
    writeFileSync(measures, `measures:\n  log.errors: { kind: counter, where: { level: error }, by: [tenantId] }\n`);
    const config = join(folder, 'logpipe.yml');
    writeFileSync(
      config,
      JSON.stringify({
        ...{ source: 'files', files: { paths: [log], dataDir: join(folder, 'positions') }, http: { port: 0 } },
        sinks: { elasticsearch: false, ndjson: { enabled: true, dir: join(folder, 'ndjson') } },
        ...{ alerts: { rulesFile: rules, measuresFile: measures, journalDir: join(folder, 'journal') } },
        ...{ dlq: { file: join(folder, 'dead.ndjson') }, monitor: { enabled: false }, log: { format: 'json' } },
      }),
    );
    const logpipe = spawnLogpipe(['run', '--config', config, '--exit-with-parent']);
    const { url } = JSON.parse(await logpipe.waitForLine(/"message":"running"/)) as { url: string };
    const writing = setInterval(() => appendFileSync(log, line(Date.now())), 100);
    onTestFinished(() => clearInterval(writing));

    const browser = await startBrowser();
    const watched = await openPage(browser, `${url}/?view=logs&mode=live`, { viewport: DESKTOP });
    const { page } = watched;
    await page.locator('.lines li').nth(5).waitFor();
    await page.getByText('<img src=x onerror=').first().waitFor();
    await expectSound(watched, 'hostile lines');
    await page.getByRole('link', { name: 'History' }).click();
    await page.locator('.lines li').nth(5).waitFor();
    await page.getByText(/files/i).first().waitFor();
    await expectSound(watched, 'hostile history');
    await page.locator('.lines a').first().click();
    await page.getByRole('complementary', { name: 'Event' }).waitFor();
    await expectSound(watched, 'a hostile event');

    // By keyboard alone: past the navigation, to the alerts, into an incident.
    await page.goto(`${url}/`);
    await page.locator('.verdict h2', { hasText: /firing/ }).waitFor();
    await page.keyboard.press('Tab');
    await expect.poll(() => page.evaluate('document.activeElement.textContent')).toMatch(/skip/i);
    for (let i = 0; i < 30; i++) {
      if ((await page.evaluate('document.activeElement.textContent')) === 'Alerts') break;
      if (String(await page.evaluate('document.activeElement.textContent')).startsWith('Alerts')) break;
      await page.keyboard.press('Tab');
    }
    await page.keyboard.press('Enter');
    await page.locator('main[data-view="alerts"]').waitFor();
    await page
      .getByRole('link', { name: /img src=x/ })
      .first()
      .focus();
    await page.keyboard.press('Enter');
    const incident = page.getByRole('complementary', { name: 'Incident' });
    await incident.waitFor();
    // An address that is a program is no link.
    expect(await incident.locator('a[href^="javascript"]').count()).toBe(0);
    await expectSound(watched, 'a hostile incident');
    for (const view of VIEWS) {
      await goTo(page, view);
      await expectSound(watched, `${view} of hostile logs`);
    }
    expect(await page.title()).not.toContain('taken');
    const scripts = await page.evaluate("[...document.querySelectorAll('script')].map((script) => script.outerHTML)");
    expect(scripts).toEqual([expect.stringMatching(/^<script type="module" src="\.\/assets\/page-[A-Z0-9]{8}\.js"/)]);
    logpipe.kill();
    await waitFor(async () => (await page.locator('.connection').getAttribute('data-state')) !== 'live', {
      what: 'the page to say that the server is gone',
    });
  }, 180_000);
});
