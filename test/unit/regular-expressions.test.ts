// Every regular expression in src/ by a checker for super-linear ones: nested repeats, neighbours that match the same text,
// and searches that begin anew at every character. What the checker cannot clear is listed here, with why it is harmless.
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { packageRoot } from '../../src/core/package-root.ts';

// The package's own entry starts a worker; this file of it is the checker alone.
const { checkSync } = createRequire(import.meta.url)('recheck/lib/browser.js') as typeof import('recheck');

const BOUNDED = 'sees a slice of at most some hundred characters';
const OWN = 'sees our own configuration, not log data';
const LINEAR = 'is linear; the checker cannot follow what it looks ahead for';
const SERVER = 'sees one line of an answer or of the system, which is short';

/** Flagged or beyond the checker. An expression over foreign bytes of any length belongs rewritten, not listed. */
const HARMLESS: readonly (readonly [RegExp, reason: string])[] = [
  // core/secret-*.ts and notation.ts: all on slices
  [/^[,;&|\s]*["']?[\w.$-]{1,40}["']?\s?(?:=|:(?!\/\/))/, BOUNDED],
  [/^(?:[\w.-]+|\[[0-9a-fA-F:.]+\])(?::\d+)?(?=[/?#,;\s"'<>`)\]}\\]|$)/, BOUNDED],
  [/:?\\*$/, BOUNDED],
  [/^[:*?!]{1,2}(?=\\*["']\s?:)/, BOUNDED],
  [/[.!?,;)]+$/, BOUNDED],
  [/^ +(?!-)\S/, BOUNDED],
  [/^(\\*["'])\s*,\s*(?=\\*["'])/, BOUNDED],
  [/^\s+(?:for|of)\s+(?:[\w@.'-]{1,40}\s+){0,2}[\w@.'-]{1,40}\s?[:=]\s?(?=\S)/, BOUNDED],
  [/^(?=.*\d)(?=.*[a-z])[\w!@#$%^&*.-]{7,}$/, BOUNDED],
  [/^(?:\S{1,64}\s+(?:by|as)\s+)?(?:password\s+|values\s+)?(?=\\*["'])/, BOUNDED],
  [/[,;&](?=\s|\w+=)/, 'one word at most follows each sign, and no word holds one: linear'],
  // other rooms
  [/\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}/, OWN],
  [/"(?:[^"\\]|\\.)*"/, OWN],
  [/([\w@][\w@.-]*)\s*(?::|[<>]=?)/, OWN],
  [/[?#].*$/, OWN],
  [/\/app(?:\/.*)?$/, OWN],
  [/\/+$/, OWN],
  [/^(-?[\d.]+) ?(.*)$/, OWN],
  [/\d+(?:ms|[smhd])/, OWN],
  [/(?:[0-9A-F]+:)?error:[0-9A-F]+:SSL routines:[^:]*:([^:]+):[^\n]*\n?/, SERVER],
  [/mapper \[.*\] (?:cannot|conflicts)/, SERVER],
  [/^\s*([^\s:]+):\s*(.*)$/, SERVER],
  [/^[-_.]+[\dTZWw:+_.-]*$/, 'sees the name of a file'],
  [/^[\d_-]{6,}-(?=[^\d])(.+)$/, 'sees the name of a file'],
  [/^(?:\d+|[0-9a-f]{8}-[0-9a-f-]{27}|(?=.*\d)[0-9a-f]{12,})$/, LINEAR],
  [/(?:[A-Za-z0-9_]|(?<=[A-Za-z])[:.'](?=[A-Za-z])|(?<=\d)[,;.'](?=\d))+/, LINEAR],
  [
    /[:[,]\s*(?:-0|-?\d(?:[\d.]{0,14}[eE]|[\d.]{15}))/,
    'blanks and at most 16 digits follow a sign and hold none: linear',
  ],
];
const HARMLESS_SOURCES = new Set(HARMLESS.map(([{ source }]) => source));
/** Too many alternatives for the checker; recognised by how it begins. */
const HARMLESS_HEADS: readonly (readonly [head: string, reason: string])[] = [
  ['^\\{"v":1,"open":true,"totals"', 'sees what we wrote ourselves, and its parts exclude each other'],
  ['^(?:null|undefined|none|nil|nan|true|false', BOUNDED],
  ['^\\s*,\\s*(\\\\*)(["\'])(?:value|val|values', BOUNDED],
];

/** Made at run time, so that no literal shows them: how often in each file, and why that is safe. */
const MADE: Readonly<Record<string, readonly [count: number, reason: string]>> = {
  'cli/io.ts': [1, OWN],
  'cli/replay.ts': [1, OWN],
  'cli/ship.ts': [1, 'only compiled'],
  'core/secrets/mask.ts': [
    2,
    'the operator’s own, in windows; letters of keys with at most two characters between them',
  ],
  'core/regex-ambiguity.ts': [1, 'only compiled'],
  'core/safe-json.ts': [3, 'one character each'],
  'ship/options.ts': [1, 'only compiled'],
  'source/lines.ts': [1, 'the operator’s own, for the first 256 bytes of a line'],
};

interface Literal {
  readonly file: string;
  readonly line: number;
  readonly source: string;
  readonly flags: string;
}

/** A regular expression may begin behind these: behind a value a slash divides. */
const BEFORE = new Set([...'(,=:[!&|?{};+-*%<>~^}', 'return', 'case', 'of', 'in', 'typeof', '']);

/** The literals of a TypeScript file: strings, templates and comments passed over. */
function literalsOf(file: string, text: string): Literal[] {
  const found: Literal[] = [];
  const open: string[] = [];
  let before = '';
  let i = text.startsWith('#!') ? text.indexOf('\n') : 0;

  function template(): void {
    for (; i < text.length; i += text[i] === '\\' ? 2 : 1) {
      if (text[i] === '`') break;
      if (text.startsWith('${', i)) {
        open.push('`');
        i += 2;
        before = '';
        return;
      }
    }
    i += 1;
    before = 'value';
  }

  while (i < text.length) {
    const char = text[i]!;
    const word = /^[\w$]+/.exec(text.slice(i, i + 80))?.[0];
    if (/\s/.test(char)) i += 1;
    else if (text.startsWith('//', i)) i = (text.indexOf('\n', i) + 1 || text.length + 1) - 1;
    else if (text.startsWith('/*', i)) i = text.indexOf('*/', i) + 2;
    else if (word !== undefined) {
      i += word.length;
      before = BEFORE.has(word) ? word : 'value';
    } else if (char === "'" || char === '"') {
      i += 1;
      while (text[i] !== char) i += text[i] === '\\' ? 2 : 1;
      i += 1;
      before = 'value';
    } else if (char === '`' || (char === '}' && open.at(-1) === '`')) {
      if (char === '}') open.pop();
      i += 1;
      template();
    } else if (char === '/' && BEFORE.has(before)) {
      const start = i + 1;
      let inSet = false;
      for (i = start; inSet || text[i] !== '/'; i++) {
        if (text[i] === '\\') i += 1;
        else if (text[i] === '[') inSet = true;
        else if (text[i] === ']') inSet = false;
      }
      const flags = /^[a-z]*/.exec(text.slice(i + 1, i + 10))![0];
      found.push({ file, line: text.slice(0, start).split('\n').length, source: text.slice(start, i), flags });
      i += 1 + flags.length;
      before = 'value';
    } else {
      if (char === '{') open.push('{');
      else if (char === '}') open.pop();
      before = char === ')' || char === ']' ? 'value' : char;
      i += 1;
    }
  }
  return found;
}

const SOURCE = join(packageRoot(), 'src');
const files = readdirSync(SOURCE, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
const texts = files.map((name) => [name.replaceAll('\\', '/'), readFileSync(join(SOURCE, name), 'utf8')] as const);
const literals = texts.flatMap(([name, text]) => literalsOf(name, text));

/** What the checker says against an expression, if anything. */
function objection({ source, flags }: Literal): string | undefined {
  const said = checkSync(source, flags, { checker: 'automaton', timeout: 120_000 });
  if (said.status === 'safe') return undefined;
  return said.status === 'vulnerable' ? `vulnerable, ${said.complexity.summary}` : `unknown, ${said.error.kind}`;
}

const isHarmless = (source: string) =>
  HARMLESS_SOURCES.has(source) || HARMLESS_HEADS.some(([head]) => source.startsWith(head));

test('the literals are found, and the checker tells super-linear ones', () => {
  expect(literals.length).toBeGreaterThan(200);
  const made = literalsOf(
    'x.ts',
    'const a = b / c / d; return /a[/]b/g.test("/x/") ? `/${/y/u.source}/` : 1 / 2; // /z/',
  );
  expect(made.map(({ source, flags }) => source + flags)).toEqual(['a[/]bg', 'yu']);
  for (const source of ['[A-Z0-9]+@corp', '(a+)+b', 'a.*b.*c', '\\s+$']) {
    expect(objection({ file: '', line: 0, source, flags: '' }), source).toMatch(/vulnerable/);
  }
  expect(objection({ file: '', line: 0, source: '^\\d{4}-\\d\\d', flags: '' })).toBeUndefined();
});

test('no expression costs more than in step with what it reads', () => {
  const said = new Map<string, string | undefined>();
  const wrong: string[] = [];
  for (const literal of literals) {
    const { file, line, source, flags } = literal;
    if (isHarmless(source)) continue;
    const key = `${source}/${flags}`;
    if (!said.has(key)) said.set(key, objection(literal));
    const against = said.get(key);
    if (against !== undefined) wrong.push(`src/${file}:${line}: /${source}/${flags}: ${against}`);
  }
  expect(wrong).toEqual([]);
}, 600_000);

test('no exception is left of an expression that is gone', () => {
  const sources = new Set(literals.map(({ source }) => source));
  expect([...HARMLESS_SOURCES].filter((source) => !sources.has(source))).toEqual([]);
  expect(HARMLESS_HEADS.filter(([head]) => ![...sources].some((source) => source.startsWith(head)))).toEqual([]);
});

test('expressions that are made at run time are known', () => {
  const made = texts
    .map(([name, text]) => [name, text.split('new RegExp(').length - 1] as const)
    .filter(([, count]) => count > 0);
  expect(Object.fromEntries(made)).toEqual(Object.fromEntries(Object.entries(MADE).map(([name, [n]]) => [name, n])));
});
