// ElastAlert 2 over the events of scenarios. In: scenarios. Out: what a person would have been sent. Guarantee: its own code, on a real
// Elasticsearch that holds the documents logpipe indexes, each from the moment it would have been there; only its clock is replaced.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  cpSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { parse, stringify } from 'yaml';
import { LogpipeError } from '../../../src/core/errors.ts';
import { packageRoot } from '../../../src/core/package-root.ts';
import { createMasker } from '../../../src/core/secrets/mask.ts';
import { indexTemplate, TEMPLATE_NAME } from '../../../src/indexing/elasticsearch.ts';
import { createRecordReader } from '../../../src/replay/record-document.ts';
import { clockErrorOf } from '../../../src/source/kafka/record-headers.ts';
import { errorTemplate } from '../../../src/tag/tag.ts';
import { startElasticsearch } from '../../../stack/index.ts';
import { findProgram } from '../../../test/kit/programs.ts';
import { PARSE } from '../run.ts';
import type { Staged } from '../scenario.ts';
import type { Told, ToldMessage } from './told.ts';

const FOLDER = join('bench', 'truth', 'peers', 'elastalert');
/** From the broker to where a search finds it: half a second in the indexer, and a search index refreshed every second. */
const INDEXED_MS = 1_500;
const DAY_MS = 86_400_000;
/** How exactly it is found when a partition that stood still is read again. */
const STEP_MS = 1_000;
/** Characters written at once. */
const WRITE = 1_000_000;

export interface ElastAlertPeer {
  readonly versions: readonly string[];
  /** Names of the rules that can be said. */
  readonly rules: ReadonlySet<string>;
  run(name: string, staged: Staged): Promise<Told>;
  close(): Promise<void>;
}

/** @throws LogpipeError when Python is missing or ElastAlert cannot be installed */
export async function createElastAlertPeer(onProgress: (line: string) => void): Promise<ElastAlertPeer> {
  const python = await pythonWithElastAlert(onProgress);
  const own = join(packageRoot(), FOLDER);
  const folder = mkdtempSync(join(tmpdir(), 'logpipe-peers-'));
  cpSync(own, folder, { recursive: true });
  onProgress('starting Elasticsearch …');
  const elasticsearch = await startElasticsearch({ heap: '1g', onProgress });
  await installTemplate(elasticsearch.url);
  const config = join(folder, 'config.yaml');
  const { hostname, port } = new URL(elasticsearch.url);
  const here = { es_host: hostname, es_port: Number(port), rules_folder: join(folder, 'rules') };
  writeFileSync(config, stringify({ ...(parse(readFileSync(config, 'utf8')) as object), ...here }));
  const driver = startDriver(python, [join(folder, 'driver.py'), elasticsearch.url, config, elasticsearch.version]);
  return {
    versions: [`ElastAlert 2 ${await elastAlertVersion(python)}`, `Elasticsearch ${elasticsearch.version}`],
    rules: new Set(readdirSync(join(own, 'rules')).map((file) => file.replace(/\.yaml$/, ''))),
    async run(name, staged) {
      const documents = join(folder, `${name}.documents`);
      await writeDocuments(documents, staged);
      const messages = await driver.run({ name, documents, fromMs: staged.fromMs, toMs: staged.toMs });
      rmSync(documents);
      return { messages };
    },
    async close() {
      await driver.stop();
      await elasticsearch.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function installTemplate(url: string): Promise<void> {
  const response = await fetch(`${url}/_index_template/${TEMPLATE_NAME}`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(indexTemplate()),
  });
  if (!response.ok)
    throw new Error(`Elasticsearch refused the index template: ${response.status} ${await response.text()}`);
}

// ---- the documents, as logpipe's indexer would make them, each with the time from which a search finds it ----

async function writeDocuments(path: string, staged: Staged): Promise<void> {
  const read = createRecordReader({ parse: PARSE, transforms: [] }, { masker: createMasker() });
  const lines: { visibleMs: number; text: string }[] = [];
  const add = (record: Staged['records'][number], visibleMs: number) => {
    const { value, arrivalMs, sentMs, eventId, mark, partition } = record;
    const clockErrorMs = mark === undefined ? clockErrorOf(sentMs ?? arrivalMs, arrivalMs) : 0;
    const origin = { kind: 'kafka', topic: 'truth', partition } as const;
    const raw = { value, offset: lines.length, timeMs: arrivalMs, eventId };
    const result = read({ ...raw, ...(mark && { mark }), ...(clockErrorMs !== 0 && { clockErrorMs }) }, origin);
    if (!result.ok) throw new Error(`a record of the scenario cannot be read: ${result.detail}`);
    const action = JSON.stringify({ create: { _index: result.index, _id: eventId } });
    lines.push({ visibleMs, text: `${visibleMs}\t${action}\t${JSON.stringify(result.document)}\n` });
  };
  for (const record of earlier(staged)) add(record, staged.fromMs);
  const readAt = reading(staged);
  for (const record of staged.records) add(record, readAt(record) + INDEXED_MS);
  lines.sort((one, other) => one.visibleMs - other.visibleMs);

  const file = openSync(path, 'w');
  try {
    let text = '';
    for (const line of lines) {
      text += line.text;
      if (text.length > WRITE) {
        writeSync(file, text);
        text = '';
      }
    }
    writeSync(file, text);
  } finally {
    closeSync(file);
  }
}

/** Each usual error once, the day before: what a new one is compared with. */
function earlier({ occurrences, unknown, fromMs }: Staged): Staged['records'] {
  const first = new Map<string, Staged['records'][number]>();
  for (const { doc } of occurrences) {
    const message = String(doc.message);
    const template = errorTemplate(message);
    if (doc.level !== 'error' || unknown?.test(message) || first.has(template)) continue;
    const arrivalMs = fromMs - DAY_MS + first.size;
    const value = Buffer.from(JSON.stringify({ timestamp: new Date(arrivalMs).toISOString(), ...doc }));
    first.set(template, { arrivalMs, partition: 0, value });
  }
  return [...first.values()];
}

/** When the indexer reads a record: when it arrives, or when its partition is read again. */
function reading({ readableTo }: Staged): (record: Staged['records'][number]) => number {
  const reached = new Map<number, number>();
  return ({ partition, arrivalMs }) => {
    if (readableTo === undefined) return arrivalMs;
    let nowMs = Math.max(arrivalMs, reached.get(partition) ?? 0);
    while (readableTo(partition, nowMs) < arrivalMs) nowMs += STEP_MS;
    reached.set(partition, nowMs);
    return nowMs;
  };
}

// ---- the driver: a scenario goes in as a line of JSON, its messages come back ----

function compareRules({ alerts: [one] }: ToldMessage, { alerts: [other] }: ToldMessage): number {
  return one!.rule < other!.rule ? -1 : 1;
}

interface DriverLine {
  readonly done?: string;
  readonly atMs: number;
  readonly rule: string;
  readonly labels: Readonly<Record<string, string>>;
}

function startDriver(python: string, args: readonly string[]) {
  const child = spawn(python, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-4_000);
  });
  // What it says on standard error tells more.
  child.stdin.on('error', () => {});
  const exited = once(child, 'exit');
  const killAtExit = () => child.kill('SIGKILL');
  process.once('exit', killAtExit);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    async run(scenario: object): Promise<ToldMessage[]> {
      const messages: ToldMessage[] = [];
      child.stdin.write(`${JSON.stringify(scenario)}\n`);
      for (;;) {
        const { value, done } = await lines.next();
        if (done) throw new Error(`ElastAlert's driver ended: ${errors}`);
        const line = JSON.parse(value) as DriverLine;
        if (line.done !== undefined) {
          // Rules run side by side, so those of one moment come in any order.
          return messages.sort((one, other) => one.atMs - other.atMs || compareRules(one, other));
        }
        const { atMs, rule, labels } = line;
        messages.push({ atMs, kind: 'call', alerts: [{ rule, labels, firedMs: atMs }] });
      }
    },
    async stop(): Promise<void> {
      process.off('exit', killAtExit);
      child.stdin.end();
      if (child.exitCode === null) child.kill();
      await exited;
    },
  };
}

// ---- where ElastAlert is ----

/** It imports pytz without asking for it. */
const PACKAGES = ['elastalert2', 'pytz'];

/** A Python that has it: named, on the PATH, or installed now into .logpipe. */
async function pythonWithElastAlert(onProgress: (line: string) => void): Promise<string> {
  const named = process.env.LOGPIPE_ELASTALERT;
  if (named !== undefined) {
    if (await hasElastAlert(named)) return named;
    throw new LogpipeError('LOGPIPE_USAGE', `LOGPIPE_ELASTALERT: ${named} is not a Python that has elastalert2`);
  }
  const program = findProgram('elastalert');
  const interpreter = program && /^#!(\S+)/.exec(readFileSync(program, 'utf8'))?.[1];
  if (interpreter !== undefined && (await hasElastAlert(interpreter))) return interpreter;
  const folder = join(packageRoot(), '.logpipe', 'elastalert');
  const python = join(folder, 'bin', 'python');
  if (existsSync(python) && (await hasElastAlert(python))) return python;
  onProgress(`installing elastalert2 into ${folder} …`);
  try {
    await promisify(execFile)('python3', ['-m', 'venv', folder]);
    await promisify(execFile)(python, ['-m', 'pip', 'install', '--quiet', ...PACKAGES]);
  } catch (error) {
    throw new LogpipeError(
      'LOGPIPE_USAGE',
      'bench:truth: --peers needs ElastAlert 2. Install Python 3.11 or newer with venv (apt-get install python3-venv), or ' +
        'give in LOGPIPE_ELASTALERT the path of a Python that has it (pip install elastalert2 pytz)',
      { cause: error },
    );
  }
  return python;
}

async function hasElastAlert(python: string): Promise<boolean> {
  return (await elastAlertVersion(python).catch(() => undefined)) !== undefined;
}

async function elastAlertVersion(python: string): Promise<string> {
  const ask = "import elastalert.elastalert, importlib.metadata as m; print(m.version('elastalert2'))";
  return (await promisify(execFile)(python, ['-c', ask])).stdout.trim();
}
