// docs/demo.svg: the demo's screen as it really was while its incident lasted. In: what the demo writes to a terminal of 100 columns,
// which `script` of util-linux provides. Out: one picture. Not part of `npm run generate`: it takes a minute, and no two runs count
// the same events.
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../src/core/package-root.ts';

const COLUMNS = 100;
/** Too few for the commands to copy, which name folders of this very run. */
const ROWS = 24;
const CELL = { width: 8.4, height: 18 };
const MARGIN = 16;

/** The newest picture that shows an alert; else the newest. @param written all that was written to the terminal */
export function lastPicture(written: string): string[] {
  const lines: string[] = [''];
  let row = 0;
  let column = 0;
  let top = 0;
  let newest: string[] = [];
  let alerting: string[] = [];
  const put = (char: string) => {
    if (column === COLUMNS) {
      row += 1;
      column = 0;
    }
    lines[row] = `${(lines[row] ?? '').slice(0, column).padEnd(column)}${char}${(lines[row] ?? '').slice(column + 1)}`;
    column += 1;
  };
  for (const [part] of written.matchAll(/\u001b\[(\d*)([A-Za-z])|\r|\n|[^\u001b\r\n]+/g)) {
    const code = /^\u001b\[(\d*)([A-Za-z])$/.exec(part);
    if (part === '\r') column = 0;
    else if (part === '\n') {
      row += 1;
      column = 0;
      lines[row] ??= '';
    } else if (code === null) for (const char of part) put(char);
    else if (code[2] === 'K') lines[row] = (lines[row] ?? '').slice(0, column);
    else if (code[2] === 'A') {
      row = Math.max(0, row - Number(code[1]));
      top = row;
    } else if (code[2] === 'J') {
      lines.length = row + 1;
      newest = lines.slice(top, row).map((line) => line.trimEnd());
      if (/alerts +\d+ firing/.test(newest.join('\n'))) alerting = newest;
      top = row;
    }
  }
  const chosen = alerting.length > 0 ? alerting : newest;
  return chosen.slice(chosen.findIndex((line) => line !== ''));
}

/** Light text on dark, as a terminal has it; readable without the picture, because it is text. */
export function terminalSvg(lines: readonly string[]): string {
  const width = Math.ceil(COLUMNS * CELL.width + 2 * MARGIN);
  const height = lines.length * CELL.height + 2 * MARGIN;
  const escaped = (line: string) => line.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
  const texts = lines.map(
    (line, i) =>
      `<text x="${MARGIN}" y="${MARGIN + 14 + i * CELL.height}" xml:space="preserve">${escaped(line)}</text>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="The screen of the demo during its incident">
<rect width="100%" height="100%" rx="8" fill="#14181f"/>
<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="14" fill="#d7dde6">
${texts.join('\n')}
</g>
</svg>
`;
}

async function record(): Promise<string> {
  const demo = `stty cols ${COLUMNS} rows ${ROWS}; exec node dist/examples/demo/main.js --incident --for 60s`;
  const child = spawn('script', ['-qfec', demo, '/dev/null'], {
    cwd: packageRoot(),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let written = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    written += text;
  });
  return new Promise((resolve, reject) => {
    child.once('error', (error) => reject(new Error('`script` of util-linux did not start', { cause: error })));
    child.once('close', () => resolve(written));
  });
}

if (process.argv[1] === import.meta.filename) {
  const lines = lastPicture(await record());
  if (lines.length === 0) throw new Error('the demo drew nothing');
  writeFileSync(join(packageRoot(), 'docs', 'demo.svg'), terminalSvg(lines));
  console.log(`written: docs/demo.svg, ${lines.length} lines`);
}
