// `logpipe parse`: lines in, documents out, with the path each took and its tags; with `--explain`, what was done to each line and
// why; with `--test`, whether lines become the documents that a file expects. Touches no server. Guarantee: every line gets an answer, whatever it holds; nothing secret is printed, nothing in a line works
// on the terminal; what is explained was told by the parser while it did it, or is the difference between a step's input and output.
import { createReadStream } from 'node:fs';
import type { Config } from '../config.ts';
import { type Environment, loadYaml, type Schema } from '../core/config-loader.ts';
import { LogpipeError, reasonInWords } from '../core/errors.ts';
import { type Chunk, DEAD_LETTER_REASONS, isEventId, type RawRecord } from '../core/record.ts';
import { oneLine, visible } from '../core/safe-json.ts';
import { createMasker, MASK, type Masker } from '../core/secrets/mask.ts';
import { EMAIL, IP, PHONE } from '../core/secrets/personal.ts';
import type { Move } from '../parse/conform.ts';
import { isObject, valueAt, writeJson } from '../parse/json.ts';
import type { ParseObserver } from '../parse/parse.ts';
import { createRecordReader, shownText } from '../replay/record-document.ts';
import { createLineSplitter } from '../source/lines.ts';
import type { DroppedEvent, TransformObserver } from '../transform/transform.ts';
import { type Io, jsonBlock, jsonLine, readYamlFile, shown, tellTests } from './io.ts';

/** What one line becomes, as the pipeline would have it. */
export interface ParsedLine {
  readonly path: 'fast' | 'slow' | 'refused';
  readonly tags: readonly string[];
  readonly index?: string;
  readonly document?: Record<string, unknown>;
  readonly reason?: string;
  readonly detail?: string;
  /** A transform keeps it from the index; the document is what it would have been. */
  readonly dropped?: Pick<DroppedEvent, 'by' | 'counted'>;
}

type LineConfig = Pick<Config, 'parse' | 'mask' | 'transforms'>;

/** Characters of a refused line that are shown. */
const SHOWN = 2_000;
const ROW = 160;

/** A function from raw records to documents, with the very stages the pipeline uses. Never throws. */
export function createLineParser(
  config: LineConfig,
  options: { duplicatesRefused?: boolean; observer?: (ParseObserver & TransformObserver) | undefined } = {},
): (record: RawRecord, origin: Chunk['origin']) => ParsedLine {
  const read = createRecordReader(config, { masker: createMasker(config.mask), ...options });
  return (record, origin) => {
    const result = read(record, origin);
    if (!result.ok) return { path: 'refused', tags: [], reason: result.reason, detail: result.detail };
    const { path, tags, index, document, dropped } = result;
    return { path, tags, index, document, ...(dropped === undefined ? {} : { dropped }) };
  };
}

/**
 * Parses files (or stdin for `-` and none) line by line; prints one object or one readable block per line. Exit status 1 when a line
 * was refused; with `test`, when a test failed.
 * @throws LogpipeError LOGPIPE_SOURCE_FAILED for a file that cannot be read; LOGPIPE_CONFIG_UNREADABLE or LOGPIPE_CONFIG_INVALID for
 *   tests that are none
 */
export async function parse(
  files: readonly string[],
  config: LineConfig,
  options: { json: boolean; explain?: boolean; test?: readonly string[] },
  io: Io,
): Promise<number> {
  const { json, test = [] } = options;
  if (test.length > 0) {
    if (files.length > 0)
      throw new LogpipeError('LOGPIPE_USAGE', '--test: the lines stand in the tests; name no other file');
    return parseTests(test, config, json, io);
  }
  const explainer = options.explain === true ? createExplainer() : undefined;
  const parseLine = createLineParser(config, { observer: explainer?.observer });
  const masker = createMasker(config.mask);
  let refused = 0;
  for (const file of files.length === 0 ? ['-'] : files) {
    const origin = { kind: 'file', path: file, identity: file } as const;
    for await (const record of linesOf(file, io)) {
      const result = parseLine(record, origin);
      if (result.path === 'refused') refused += 1;
      const text = result.path === 'refused' ? { value: shownText(record.value, masker, SHOWN) } : {};
      const explained = explainer === undefined ? {} : { id: idOf(result), explanation: explainer.take(result.path) };
      const line: Shown = { ...result, ...text, ...explained };
      io.out(json ? jsonLine(line, masker) : readable(shown(line, masker) as Shown, masker));
    }
  }
  return refused === 0 ? 0 : 1;
}

type Shown = ParsedLine & {
  readonly value?: string | null;
  /** Of the document; null when it follows from the record's place in its source. */
  readonly id?: string | null;
  readonly explanation?: Explanation;
};

/** The header of a record that logpipe's transport sent says the same as its field. */
function idOf({ document }: ParsedLine): string | null {
  const id = document?.eventId;
  return typeof id === 'string' && isEventId(id) ? id : null;
}

/** Only a line feed ends a line, as in the pipeline: a record may hold any other separator. */
async function* linesOf(file: string, io: Io): AsyncGenerator<RawRecord> {
  const input: AsyncIterable<Buffer> = file === '-' ? process.stdin : createReadStream(file);
  const lines = createLineSplitter({
    offset: 0,
    maxLineBytes: MAX_LINE_BYTES,
    onCut: (bytes) => io.err(`${visible(file)}: a line of ${bytes} bytes was cut to ${MAX_LINE_BYTES}`),
  });
  try {
    for await (const piece of input) yield* lines.push(Buffer.from(piece), Date.now());
  } catch (error) {
    throw new LogpipeError(
      'LOGPIPE_SOURCE_FAILED',
      `${file || '""'} cannot be read (${reasonInWords(error)}); name a readable file`,
      error,
    );
  }
  yield* lines.flush(Date.now());
}

/** Longer than any record the parser takes. */
const MAX_LINE_BYTES = 64_000_000;

function readable(result: Shown, masker: Masker): string {
  if (result.path === 'refused') {
    const text = result.value ? `  ${oneLine(result.value, ROW)}` : '';
    return `refused  ${result.reason}: ${visible(result.detail ?? '')}${text}`;
  }
  const tags = result.tags.length === 0 ? 'no tags' : result.tags.map(visible).join(' ');
  const { explanation, dropped } = result;
  const still = dropped?.counted ? ', still counted' : '';
  const path = `${result.path} path${dropped === undefined ? '' : `  dropped by ${dropped.by}${still}`}`;
  if (explanation === undefined) return `${path}  ${result.index}  ${tags}\n${jsonBlock(result.document, masker)}`;
  const id = result.id === null ? 'id: its place in its source' : `id: ${result.id}`;
  return [`${path}  ${result.index}  ${id}  ${tags}`, ...explanationLines(explanation)].join('\n');
}

// ---- what was done to a line ----

export interface Explanation {
  /** Why not the fast path, on which the record's own bytes are the document. */
  readonly why?: string;
  /** Shapes of other loggers and formats of lines that were recognised. */
  readonly shapes: readonly string[];
  /** Fields whose text, or name, had something masked: what kind, and how often. */
  readonly masked: readonly { field: string; kind: MaskedKind; times: number; inName?: true }[];
  readonly renamed: readonly { from: string; to: string }[];
  /** Fields that have a value of their own now, written differently than before or found in the line. */
  readonly set: readonly string[];
  /** To `extra` or `extraRaw`; to the same field when it was converted there. */
  readonly moved: readonly { from: string; to: string; why: string }[];
  /** What steps of `transforms` did afterwards. */
  readonly transformed: readonly { step: string; what: string }[];
  /** How many entries were left out of each list. */
  readonly leftOut?: number;
}

const KINDS = { [MASK]: 'secret', [PHONE]: 'phone number', [EMAIL]: 'e-mail address', [IP]: 'IP address' } as const;
type MaskedKind = (typeof KINDS)[keyof typeof KINDS];

/** Entries of a list; a line may have thousands of fields. */
const MAX_ENTRIES = 100;
const MAX_QUOTED = 40;

/** An observer for a parser and its transforms, and what it was told since it was asked last. */
function createExplainer(): {
  readonly observer: ParseObserver & TransformObserver;
  /** @param path that the line took */
  take(path: ParsedLine['path']): Explanation;
} {
  let why: string | undefined;
  let shapes = new Set<string>();
  let masked: Explanation['masked'][number][] = [];
  let renamed: Explanation['renamed'][number][] = [];
  let set: string[] = [];
  let moved: Explanation['moved'][number][] = [];
  let transformed: Explanation['transformed'][number][] = [];

  return {
    observer: {
      slow(reason) {
        why ??= reason;
      },
      shape: (name) => void shapes.add(name),
      step(name, before, after) {
        if (name === 'masked') collectMasked(before, after, '', masked);
        else {
          const found = differences(before, after);
          renamed.push(...found.renamed);
          set.push(...found.set);
          moved.push(...found.moved);
        }
      },
      moved: (move) => void moved.push({ from: move.from, to: move.to, why: reasonOf(move) }),
      transformed: (step, what) => void transformed.push({ step, what }),
    },
    take(path) {
      if (path === 'slow' && transformed.length > 0) why ??= 'a transform changed it';
      const lists = [masked, renamed, set, moved, transformed];
      const leftOut = lists.reduce((sum, { length }) => sum + Math.max(0, length - MAX_ENTRIES), 0);
      const taken: Explanation = {
        ...(why === undefined ? {} : { why }),
        shapes: [...shapes],
        masked: masked.slice(0, MAX_ENTRIES),
        renamed: renamed.slice(0, MAX_ENTRIES),
        set: set.slice(0, MAX_ENTRIES),
        moved: moved.slice(0, MAX_ENTRIES),
        transformed: transformed.slice(0, MAX_ENTRIES),
        ...(leftOut === 0 ? {} : { leftOut }),
      };
      why = undefined;
      shapes = new Set();
      [masked, renamed, set, moved, transformed] = [[], [], [], [], []];
      return taken;
    },
  };
}

/** Where masking has put something, by the marks it leaves. */
function collectMasked(before: unknown, after: unknown, field: string, out: Explanation['masked'][number][]): void {
  if (before === after) return;
  if (typeof after === 'string') {
    for (const [mark, kind] of Object.entries(KINDS)) {
      const times = count(after, mark) - (typeof before === 'string' ? count(before, mark) : 0);
      if (times > 0) out.push({ field, kind, times });
    }
  } else if (Array.isArray(after) && Array.isArray(before)) {
    for (const [i, item] of after.entries()) collectMasked(before[i], item, `${field}[${i}]`, out);
  } else if (isObject(after) && isObject(before)) {
    // A name that was masked has kept its place.
    const names = Object.keys(before);
    Object.keys(after).forEach((name, i) => {
      const was = Object.hasOwn(before, name) ? name : names[i]!;
      const path = field === '' ? name : `${field}.${name}`;
      if (was !== name)
        for (const [mark, kind] of Object.entries(KINDS))
          if (count(name, mark) > count(was, mark)) out.push({ field: path, kind, times: 1, inName: true });
      collectMasked(before[was], after[name], path, out);
    });
  }
}

const count = (text: string, mark: string) => text.split(mark).length - 1;

/** What was brought to other names: values that left their field, and those that came to one. */
function differences(before: Readonly<Record<string, unknown>>, after: Readonly<Record<string, unknown>>) {
  const was = leavesOf(before);
  const is = leavesOf(after);
  const sources = new Map<string, string[]>();
  for (const [path, value] of was) {
    if (is.get(path) === value) continue;
    const same = sources.get(value);
    if (same === undefined) sources.set(value, [path]);
    else same.push(path);
  }
  const renamed: { from: string; to: string }[] = [];
  const moved: { from: string; to: string; why: string }[] = [];
  const set: string[] = [];
  for (const [to, value] of is) {
    if (was.get(to) === value) continue;
    const same = sources.get(value) ?? [];
    // Of several equal values the one with the same name, as in `level` and `extra.level`.
    const own = same.findIndex((path) => to.endsWith(path.replace(/^.*: /, '')));
    const [from] = same.splice(Math.max(own, 0), 1);
    if (from === undefined) set.push(to);
    else if (to.startsWith('extra.')) moved.push({ from, to, why: 'its field holds another value, or it has none' });
    else renamed.push({ from, to });
  }
  return { renamed, moved, set };
}

const MAX_LEVELS = 20;

/** Every value that is no group, as text, by its path; those of JSON in a message by `message: ` and their path in it. */
function leavesOf(object: Readonly<Record<string, unknown>>): Map<string, string> {
  const leaves = new Map<string, string>();
  function add(value: unknown, path: string, levels: number): void {
    if (isObject(value) && levels < MAX_LEVELS) {
      for (const name of Object.keys(value))
        add(value[name], path === '' || path.endsWith(': ') ? path + name : `${path}.${name}`, levels + 1);
    } else {
      leaves.set(path, writeJson(value));
      if (typeof value === 'string' && value.startsWith('{')) addJson(value, path, levels);
    }
  }
  function addJson(text: string, path: string, levels: number): void {
    try {
      add(JSON.parse(text), `${path}: `, levels + 1);
    } catch {
      // Plain text.
    }
  }
  add(object, '', 0);
  return leaves;
}

const NOUNS: Readonly<Record<string, string>> = {
  long: 'whole number',
  short: 'whole number of 16 bits',
  float: 'number',
  boolean: 'true or false',
  date: 'time',
  keyword: 'text',
  text: 'text',
  flattened: 'object',
  raw: 'text',
};

function reasonOf({ from, to, why, value, type }: Move): string {
  const given = writeJson(value, MAX_QUOTED).slice(0, MAX_QUOTED);
  const quoted = given.length === MAX_QUOTED ? `${given}…` : given;
  const noun = NOUNS[type ?? ''] ?? 'value of this field';
  switch (why) {
    case 'type':
      return `${quoted} is no ${noun}`;
    case 'converted':
      return `${quoted} became a ${noun}${to === from ? '' : '; this is the original'}`;
    case 'group':
      return `${from} is a group of fields, and ${quoted} is none`;
    case 'below':
      return `${from.split('.')[0]} is a field of the catalogue, so nothing can stand below it`;
    case 'name':
      return 'Elasticsearch takes no field of this name';
    case 'depth':
      return 'it is nested too deeply';
    case 'many':
      return 'the record has too many fields of its own';
    case 'size':
      return 'it is too large, too deep or too long in its name for extra';
    case 'own':
      return 'logpipe writes this field itself';
  }
}

function explanationLines(explanation: Explanation): string[] {
  const { why, shapes, masked, renamed, set, moved, transformed, leftOut = 0 } = explanation;
  const row = (label: string, text: string) => `  ${label.padEnd(8)} ${oneLine(visible(text), ROW)}`;
  return [
    ...(why === undefined ? [] : [row('why', why)]),
    ...shapes.map((name) => row('shape', name)),
    ...renamed.map(({ from, to }) => row('renamed', `${from} → ${to}`)),
    ...set.map((field) => row('set', field)),
    ...masked.map(({ field, kind, times, inName }) =>
      row('masked', `${kind} in ${inName ? 'the name ' : ''}${field}${times > 1 ? ` (${times} times)` : ''}`),
    ),
    ...moved.map(({ from, to, why: reason }) =>
      from === to ? row('changed', `${from}: ${reason}`) : row('moved', `${from} → ${to}: ${reason}`),
    ),
    ...transformed.map(({ step, what }) => row('step', `${step}: ${what}`)),
    ...(leftOut === 0 ? [] : [row('', `and ${leftOut} more`)]),
  ];
}

// ---- tests, as users write them ----

/** A record without a time of its own arrives at this one. */
const ARRIVAL_MS = Date.parse('2026-01-05T10:00:00Z');
/** Compared only where a test names them: most lines differ in them. */
const TIMES = ['@timestamp', 'timestamp'];

interface WrittenTest {
  readonly name: string;
  readonly line?: string;
  readonly event?: object;
  readonly eventId?: string;
  readonly expect: {
    readonly document?: Readonly<Record<string, unknown>>;
    readonly fields?: Readonly<Record<string, unknown>>;
    readonly absent?: readonly string[];
    readonly tags?: readonly string[];
    readonly index?: string;
    readonly dropped?: 'index' | 'everywhere';
    readonly refused?: string;
  };
}

const LINE_TESTS_SCHEMA = {
  type: 'object',
  additionalProperties: false,
  required: ['tests'],
  properties: {
    /** Events that several tests refer to by YAML anchors. */
    events: { type: 'object', additionalProperties: { type: 'object' } },
    tests: {
      type: 'array',
      minItems: 1,
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['name', 'expect'],
        properties: {
          name: { type: 'string', minLength: 1 },
          /** The record as it is in the log; else `event`, with a time, a level, a message and a service unless it has them. */
          line: { type: 'string', minLength: 1 },
          event: { type: 'object' },
          /** Of the record's header: a sample is decided by it. */
          eventId: {
            type: 'string',
            pattern: '^[0-7][0-9A-HJKMNP-TV-Z]{25}$',
            permitted: 'a ULID, like 01KE70Q0VG0000000000000001',
          },
          expect: {
            type: 'object',
            additionalProperties: false,
            minProperties: 1,
            properties: {
              /** All of it; times only where they are named. */
              document: { type: 'object' },
              /** Some of its fields, by path. */
              fields: { type: 'object', minProperties: 1 },
              absent: { type: 'array', items: { type: 'string' }, minItems: 1 },
              tags: { type: 'array', items: { type: 'string' } },
              index: { type: 'string' },
              /** Default: it is indexed. */
              dropped: { enum: ['index', 'everywhere'] },
              refused: { enum: DEAD_LETTER_REASONS },
            },
          },
        },
      },
    },
  },
} as const satisfies Schema;

function parseTests(files: readonly string[], config: LineConfig, json: boolean, io: Io): number {
  const results = files.flatMap((file) =>
    runLineTests(readYamlFile(file), file, config, process.env).map((result) => ({ file, ...result })),
  );
  return tellTests(results, { json }, io, createMasker(config.mask));
}

interface LineTestResult {
  readonly name: string;
  /** What does not hold, a sentence each; empty when all does. */
  readonly problems: readonly string[];
}

/** All tests of a file, in its order. @param place the file's name @throws LogpipeError LOGPIPE_CONFIG_INVALID */
export function runLineTests(text: string, place: string, config: LineConfig, env: Environment): LineTestResult[] {
  const { tests } = loadYaml<{ tests: readonly WrittenTest[] }>(text, LINE_TESTS_SCHEMA, env, place);
  const parseLine = createLineParser(config);
  const origin = { kind: 'file', path: place, identity: place } as const;
  return tests.map(({ name, line, event, eventId, expect }, offset) => {
    const usual = { timestamp: new Date(ARRIVAL_MS).toISOString(), level: 'info', message: 'test', service: 'test' };
    const value = Buffer.from(line ?? JSON.stringify({ ...usual, ...event }));
    const at = (timeMs: number) => parseLine({ value, offset, timeMs, eventId }, origin);
    // It arrives when it says that it happened, so that old lines are not out of time.
    const ownMs = Date.parse(String(at(ARRIVAL_MS).document?.timestamp));
    return { name, problems: compare(expect, at(Number.isFinite(ownMs) ? ownMs : ARRIVAL_MS)) };
  });
}

/** What does not hold. */
function compare(expected: WrittenTest['expect'], found: ParsedLine): string[] {
  const { dropped, refused } = expected;
  if (found.path === 'refused') {
    return refused === found.reason
      ? []
      : [`expected ${wanted(expected)}, it is refused: ${found.reason}, ${found.detail}`];
  }
  const { document = {}, tags, index } = found;
  const fate = found.dropped === undefined ? undefined : found.dropped.counted ? 'index' : 'everywhere';
  if (refused !== undefined || dropped !== fate) {
    const what = found.dropped === undefined ? 'indexed' : `dropped (${fate}) by ${found.dropped.by}`;
    return [`expected ${wanted(expected)}, it is ${what}`];
  }
  const problems: string[] = [];
  if (expected.index !== undefined && expected.index !== index) {
    problems.push(`index: expected ${expected.index}, found ${index}`);
  }
  if (expected.tags !== undefined) {
    problems.push(...difference('tags', [...expected.tags].sort(), [...tags].sort()));
  }
  for (const [path, value] of Object.entries(expected.fields ?? {})) {
    problems.push(...difference(path, value, valueAt(document, path)));
  }
  for (const path of expected.absent ?? []) problems.push(...difference(path, undefined, valueAt(document, path)));
  if (expected.document !== undefined) {
    const named = expected.document;
    const compared = Object.fromEntries(
      Object.entries(document).filter(([name]) => Object.hasOwn(named, name) || !TIMES.includes(name)),
    );
    problems.push(...difference('', named, compared));
  }
  return problems;
}

function wanted({ dropped, refused }: WrittenTest['expect']): string {
  if (refused !== undefined) return `it to be refused (${refused})`;
  return dropped === undefined ? 'a document' : `it to be dropped (${dropped})`;
}

/** Field by field, so that a long document shows only what differs. */
function difference(path: string, expected: unknown, found: unknown): string[] {
  if (isObject(expected) && isObject(found)) {
    const names = [...new Set([...Object.keys(expected), ...Object.keys(found)])];
    return names.flatMap((name) => difference(path === '' ? name : `${path}.${name}`, expected[name], found[name]));
  }
  const [want, have] = [expected, found].map((value) => (value === undefined ? undefined : writeJson(value)));
  if (want === have) return [];
  if (want === undefined) return [`${path}: not expected, found ${have}`];
  return [`${path}: expected ${want}, found ${have ?? 'nothing'}`];
}
