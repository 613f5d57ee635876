// Prometheus and Alertmanager over the events of scenarios. In: scenarios. Out: what a person would have been sent. Guarantee: the
// rules are evaluated by Prometheus's own code (promtool, on a clock of its own), and a real Alertmanager groups, mutes, repeats and
// sends, at a multiple of the real speed; between the two, alerts are handed over as Prometheus does it.
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parse, stringify } from 'yaml';
import { durationMs, sleep } from '../../../src/core/clock.ts';
import { errorText, LogpipeError } from '../../../src/core/errors.ts';
import { packageRoot } from '../../../src/core/package-root.ts';
import { findProgram, monitoringProgram } from '../../../test/kit/programs.ts';
import { startReceiver } from '../../../test/kit/receiver.ts';
import { alertmanagerArgs, startProgram } from '../../../test/kit/running-program.ts';
import type { Staged } from '../scenario.ts';
import { expose, SCRAPE_MS, type Series } from './exposition.ts';
import type { Told, ToldAlert, ToldMessage } from './told.ts';

/** Alertmanager runs this much faster than time does. */
const SPEED = 30;
/** Prometheus's own: firing alerts are sent again every minute, and end by themselves after four. */
const RESEND_MS = 60_000;
const VALID_MS = 4 * RESEND_MS;
/** After the end of a scenario, for messages that are still to come. */
const AFTER_MS = 60_000;
const FOLDER = join('bench', 'truth', 'peers', 'prometheus');

/** Our labels under the names that the rules of logpipe use. */
const LABELS: Readonly<Record<string, string>> = {
  host: 'host',
  queue: 'queue.name',
  system: 'db.system',
  tenant: 'tenantId',
};

interface Firing {
  readonly labels: Readonly<Record<string, string>>;
  /** Firing in [fromMs, toMs), by the evaluations. */
  readonly fromMs: number;
  readonly toMs: number;
}

export interface PrometheusPeer {
  readonly versions: readonly string[];
  /** Names of the rules that can be said. */
  readonly rules: ReadonlySet<string>;
  /** Evaluates the rules over a scenario, and keeps what fires. */
  evaluate(name: string, staged: Staged): Promise<void>;
  /** Sends what fired in all scenarios, side by side, and ends. */
  notify(onProgress: (line: string) => void): Promise<ReadonlyMap<string, Told>>;
  close(): void;
}

/** @throws LogpipeError when a program is missing */
export async function createPrometheusPeer(): Promise<PrometheusPeer> {
  const programs = {
    promtool: required('promtool'),
    alertmanager: required('prometheus-alertmanager', 'alertmanager'),
  };
  const own = join(packageRoot(), FOLDER);
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-peers-'));
  cpSync(join(own, 'alerts.yml'), join(folder, 'alerts.yml'));
  const { groups } = parse(readFileSync(join(own, 'alerts.yml'), 'utf8')) as {
    groups: { rules: { alert?: string }[] }[];
  };
  const fired = new Map<string, { staged: Staged; firing: Firing[] }>();

  return {
    versions: await Promise.all([
      versionOf(programs.promtool, 'Prometheus'),
      versionOf(programs.alertmanager, 'Alertmanager'),
    ]),
    rules: new Set(groups.flatMap(({ rules }) => rules.flatMap(({ alert }) => alert ?? []))),
    async evaluate(name, staged) {
      fired.set(name, { staged, firing: await evaluate(programs.promtool, folder, name, staged) });
    },
    notify: (onProgress) => notify(programs.alertmanager, folder, fired, onProgress),
    close: () => rmSync(folder, { recursive: true, force: true }),
  };
}

function required(name: 'promtool' | 'prometheus-alertmanager', otherName = name as string): string {
  try {
    // Debian calls Alertmanager's program otherwise than everybody else.
    return findProgram(otherName) ?? monitoringProgram(name);
  } catch (error) {
    throw new LogpipeError('LOGPIPE_USAGE', `bench:truth: --peers: ${errorText(error)}`, { cause: error });
  }
}

async function versionOf(program: string, name: string): Promise<string> {
  const { stdout, stderr } = await promisify(execFile)(program, ['--version']);
  return `${name} ${/version (\d[\d.]*)/.exec(stdout + stderr)?.[1] ?? 'of an unknown version'}`;
}

// ---- which rules fire: promtool, whose time 0 is the start of the scenario ----

async function evaluate(promtool: string, folder: string, name: string, staged: Staged): Promise<Firing[]> {
  const series = expose(staged);
  const ticks = series[0]?.values.length ?? 0;
  const test = {
    rule_files: ['alerts.yml'],
    evaluation_interval: `${SCRAPE_MS / 1_000}s`,
    tests: [
      {
        interval: `${SCRAPE_MS / 1_000}s`,
        input_series: series.map((one) => ({ series: selectorOf(one), values: valuesOf(one) })),
        // Nothing is expected, so that it says what there was.
        promql_expr_test: Array.from({ length: ticks }, (_, tick) => ({
          expr: 'ALERTS{alertstate="firing"}',
          eval_time: `${(tick * SCRAPE_MS) / 1_000}s`,
          exp_samples: [],
        })),
      },
    ],
  };
  const file = `${name}.test.yml`;
  // As JSON, which is YAML too and is written many times faster.
  writeFileSync(join(folder, file), JSON.stringify(test));
  const output = await outputOf(promtool, ['test', 'rules', file], folder);
  if (!/SUCCESS|FAILED/.test(output)) throw new Error(`promtool test rules ${file}: ${output.slice(0, 2_000)}`);
  if (/could not|error parsing|unexpected/i.test(output)) throw new Error(`promtool: ${output.slice(0, 2_000)}`);
  return firingsOf(output, staged.fromMs, (ticks - 1) * SCRAPE_MS + staged.fromMs);
}

/** What it prints, whatever its exit status. */
async function outputOf(program: string, args: string[], cwd: string): Promise<string> {
  try {
    const { stdout, stderr } = await promisify(execFile)(program, args, { cwd, maxBuffer: 2 ** 28 });
    return stdout + stderr;
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string };
    if (stdout === undefined) throw error;
    return stdout + stderr;
  }
}

function selectorOf({ name, labels }: Series): string {
  const pairs = Object.entries(labels).map(([label, value]) => `${label}=${JSON.stringify(value)}`);
  return `${name}{${pairs.join(',')}}`;
}

/** A process that is not there leaves a mark that its series ended, as a failed scrape does. */
function valuesOf({ values }: Series): string {
  return values
    .map((value, i) => {
      if (value !== null) return String(value);
      return i > 0 && values[i - 1] !== null ? 'stale' : '_';
    })
    .join(' ');
}

/** @param endMs the last evaluation: what fires then goes on */
export function firingsOf(output: string, startMs: number, endMs: number): Firing[] {
  const open = new Map<string, { labels: Record<string, string>; fromMs: number; lastMs: number }>();
  const firings: Firing[] = [];
  const end = (one: { labels: Record<string, string>; fromMs: number; lastMs: number }) =>
    firings.push({
      labels: one.labels,
      fromMs: one.fromMs,
      toMs: one.lastMs === endMs ? Number.POSITIVE_INFINITY : one.lastMs + SCRAPE_MS,
    });
  let ms = startMs;
  for (const line of output.split('\n')) {
    const time = /^ +expr: .*, time: ([0-9hms]+),$/.exec(line)?.[1];
    if (time !== undefined) ms = startMs + promDuration(time);
    if (!/^ +got: /.test(line)) continue;
    for (const [, text] of line.matchAll(/\{([^}]*)\}/g)) {
      const labels = Object.fromEntries(
        [...text!.matchAll(/(\w+)="([^"]*)"/g)].map(([, name, value]) => [name!, value!]),
      );
      delete labels.__name__;
      delete labels.alertstate;
      const key = JSON.stringify(labels);
      const known = open.get(key);
      if (known !== undefined && ms - known.lastMs <= SCRAPE_MS) known.lastMs = ms;
      else {
        if (known !== undefined) end(known);
        open.set(key, { labels, fromMs: ms, lastMs: ms });
      }
    }
  }
  for (const one of open.values()) end(one);
  return firings.sort((one, other) => one.fromMs - other.fromMs);
}

/** As Prometheus writes it: 1h2m15s. */
function promDuration(text: string): number {
  const units: Record<string, number> = { h: 3_600_000, m: 60_000, s: 1_000 };
  return [...text.matchAll(/(\d+)([hms])/g)].reduce((sum, [, count, unit]) => sum + Number(count) * units[unit!]!, 0);
}

// ---- what is sent: a real Alertmanager, with every time divided by SPEED ----

async function notify(
  program: string,
  folder: string,
  fired: ReadonlyMap<string, { staged: Staged; firing: readonly Firing[] }>,
  onProgress: (line: string) => void,
): Promise<ReadonlyMap<string, Told>> {
  const told = new Map<string, { messages: ToldMessage[] }>([...fired.keys()].map((name) => [name, { messages: [] }]));
  // Each scenario begins with its first alert, all at the same moment.
  const runs = [...fired].flatMap(([name, { staged, firing }]) =>
    firing.length === 0 ? [] : [{ name, firing, fromMs: firing[0]!.fromMs, toMs: staged.toMs + AFTER_MS }],
  );
  if (runs.length === 0) return told;
  const longestMs = Math.max(...runs.map(({ fromMs, toMs }) => toMs - fromMs));
  onProgress(
    `Alertmanager: ${runs.length} scenarios at ${SPEED} times the speed, ${Math.ceil(longestMs / SPEED / 1_000)} s`,
  );

  const receiver = await startReceiver();
  const alertmanager = await startAlertmanager(program, folder, receiver.url);
  const began = { wallMs: Date.now(), ms: performance.now() };
  const elapsed = () => (performance.now() - began.ms) * SPEED;
  try {
    const wall = (virtualMs: number) => new Date(began.wallMs + virtualMs / SPEED).toISOString();
    for (let tick = 0; tick * SCRAPE_MS <= longestMs; tick++) {
      const sinceMs = tick * SCRAPE_MS;
      await sleep(Math.max(0, (sinceMs - elapsed()) / SPEED));
      const batch = runs.flatMap(({ name, firing, fromMs, toMs }) => {
        const nowMs = fromMs + sinceMs;
        if (nowMs > toMs) return [];
        return firing.flatMap(({ labels, fromMs: startMs, toMs: endMs }) => {
          const state = { labels: { ...labels, scenario: name }, startsAt: wall(startMs - fromMs) };
          const isNew = nowMs - startMs < SCRAPE_MS || (nowMs - startMs) % RESEND_MS < SCRAPE_MS;
          if (nowMs >= startMs && nowMs < endMs && isNew) return [{ ...state, endsAt: wall(sinceMs + VALID_MS) }];
          if (nowMs >= endMs && nowMs - endMs < SCRAPE_MS) return [{ ...state, endsAt: wall(endMs - fromMs) }];
          return [];
        });
      });
      if (batch.length > 0) await post(`${alertmanager.url}/api/v2/alerts`, batch);
    }
  } finally {
    await alertmanager.stop();
    await receiver.close();
  }
  for (const { body: sent, atMs } of receiver.requests) {
    const body = sent as unknown as WebhookBody;
    const { name, fromMs } = runs.find((run) => run.name === body.groupLabels.scenario)!;
    const virtual = (wallMs: number) => Math.round(fromMs + (wallMs - began.wallMs) * SPEED);
    const alerts = body.alerts
      .filter(({ status }) => body.status === 'resolved' || status === 'firing')
      .map((alert): ToldAlert => ({ ...ruleOf(alert.labels), firedMs: virtual(Date.parse(alert.startsAt)) }));
    told.get(name)!.messages.push({ atMs: virtual(atMs), kind: body.status === 'firing' ? 'call' : 'end', alerts });
  }
  return told;
}

function ruleOf({ alertname = '', ...labels }: Readonly<Record<string, string>>): Pick<ToldAlert, 'rule' | 'labels'> {
  const named = Object.entries(labels).flatMap(([label, value]) => {
    const ours = LABELS[label];
    return ours === undefined ? [] : [[ours, value] as const];
  });
  return { rule: alertname, labels: Object.fromEntries(named) };
}

interface WebhookBody {
  readonly status: 'firing' | 'resolved';
  readonly groupLabels: Readonly<Record<string, string>>;
  readonly alerts: readonly {
    readonly status: 'firing' | 'resolved';
    readonly labels: Readonly<Record<string, string>>;
    readonly startsAt: string;
  }[];
}

async function startAlertmanager(program: string, folder: string, receiver: string) {
  const config: unknown = parse(readFileSync(join(packageRoot(), FOLDER, 'alertmanager.yml'), 'utf8'));
  const file = join(folder, 'alertmanager.yml');
  writeFileSync(file, stringify(hastened(config, receiver)));
  const data = join(folder, 'alertmanager');
  mkdirSync(data, { recursive: true });
  return startProgram(program, '/-/ready', (address) => alertmanagerArgs(file, data, address));
}

/** The same configuration with its times divided, for our receiver. */
function hastened(value: unknown, receiver: string, key = ''): unknown {
  if (Array.isArray(value)) return value.map((item) => hastened(item, receiver));
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, hastened(item, receiver, name)]));
  }
  if (/^(group_wait|group_interval|repeat_interval)$/.test(key))
    return `${Math.round(durationMs(String(value)) / SPEED)}ms`;
  return key === 'url' ? String(value).replace('http://127.0.0.1:0', receiver) : value;
}

async function post(url: string, body: object): Promise<void> {
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`Alertmanager refused alerts: ${response.status} ${await response.text()}`);
}
