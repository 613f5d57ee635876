// `logpipe parse`: lines in, documents out, with the path each took and its tags; with `--explain`, what was done to each line and
// why. Touches no server. Guarantee: every line gets an answer, whatever it holds; nothing secret is printed, nothing in a line works
// on the terminal; what is explained was told by the parser while it did it, or is the difference between a step's input and output.
import { createReadStream } from 'node:fs';
import type { Config } from '../config.ts';
import { LogpipeError, reasonInWords } from '../core/errors.ts';
import { type Chunk, isEventId, type RawRecord } from '../core/record.ts';
import { oneLine, visible } from '../core/safe-json.ts';
import { createMasker, MASK, type Masker } from '../core/secrets/mask.ts';
import { EMAIL, IP, PHONE } from '../core/secrets/personal.ts';
import type { Move } from '../parse/conform.ts';
import { isObject, writeJson } from '../parse/json.ts';
import type { ParseObserver } from '../parse/parse.ts';
import { createRecordReader, shownText } from '../replay/record-document.ts';
import { createLineSplitter } from '../source/lines.ts';
import { type Io, jsonBlock, jsonLine, shown } from './io.ts';

/** What one line becomes, as the pipeline would have it. */
export interface ParsedLine {
  readonly path: 'fast' | 'slow' | 'refused';
  readonly tags: readonly string[];
  readonly index?: string;
  readonly document?: Record<string, unknown>;
  readonly reason?: string;
  readonly detail?: string;
}

/** Characters of a refused line that are shown. */
const SHOWN = 2_000;
const ROW = 160;

/** A function from raw records to documents, with the very stages the pipeline uses. Never throws. */
export function createLineParser(
  config: Pick<Config, 'parse' | 'mask'>,
  options: { duplicatesRefused?: boolean; observer?: ParseObserver | undefined } = {},
): (record: RawRecord, origin: Chunk['origin']) => ParsedLine {
  const read = createRecordReader(config.parse, { masker: createMasker(config.mask), ...options });
  return (record, origin) => {
    const result = read(record, origin);
    if (!result.ok) return { path: 'refused', tags: [], reason: result.reason, detail: result.detail };
    const { path, tags, index, document } = result;
    return { path, tags, index, document };
  };
}

/**
 * Parses files (or stdin for `-` and none) line by line; prints one object or one readable block per line. Exit status 1 when a line
 * was refused. @throws LogpipeError LOGPIPE_SOURCE_FAILED for a file that cannot be read
 */
export async function parse(
  files: readonly string[],
  config: Pick<Config, 'parse' | 'mask'>,
  options: { json: boolean; explain?: boolean },
  io: Io,
): Promise<number> {
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
      const explained = explainer === undefined ? {} : { id: idOf(result), explanation: explainer.take() };
      const line: Shown = { ...result, ...text, ...explained };
      io.out(options.json ? jsonLine(line, masker) : readable(shown(line, masker) as Shown, masker));
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
  const { explanation } = result;
  if (explanation === undefined)
    return `${result.path} path  ${result.index}  ${tags}\n${jsonBlock(result.document, masker)}`;
  const id = result.id === null ? 'id: its place in its source' : `id: ${result.id}`;
  return [`${result.path} path  ${result.index}  ${id}  ${tags}`, ...explanationLines(explanation)].join('\n');
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
  /** How many entries were left out of each list. */
  readonly leftOut?: number;
}

const KINDS = { [MASK]: 'secret', [PHONE]: 'phone number', [EMAIL]: 'e-mail address', [IP]: 'IP address' } as const;
type MaskedKind = (typeof KINDS)[keyof typeof KINDS];

/** Entries of a list; a line may have thousands of fields. */
const MAX_ENTRIES = 100;
const MAX_QUOTED = 40;

/** An observer for a parser, and what it was told since it was asked last. */
function createExplainer(): { readonly observer: ParseObserver; take(): Explanation } {
  let why: string | undefined;
  let shapes = new Set<string>();
  let masked: Explanation['masked'][number][] = [];
  let renamed: Explanation['renamed'][number][] = [];
  let set: string[] = [];
  let moved: Explanation['moved'][number][] = [];

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
    },
    take() {
      const lists = [masked, renamed, set, moved];
      const leftOut = lists.reduce((sum, { length }) => sum + Math.max(0, length - MAX_ENTRIES), 0);
      const taken: Explanation = {
        ...(why === undefined ? {} : { why }),
        shapes: [...shapes],
        masked: masked.slice(0, MAX_ENTRIES),
        renamed: renamed.slice(0, MAX_ENTRIES),
        set: set.slice(0, MAX_ENTRIES),
        moved: moved.slice(0, MAX_ENTRIES),
        ...(leftOut === 0 ? {} : { leftOut }),
      };
      why = undefined;
      shapes = new Set();
      [masked, renamed, set, moved] = [[], [], [], []];
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

function explanationLines({ why, shapes, masked, renamed, set, moved, leftOut = 0 }: Explanation): string[] {
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
    ...(leftOut === 0 ? [] : [row('', `and ${leftOut} more`)]),
  ];
}
