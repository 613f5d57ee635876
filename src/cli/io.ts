// Where commands write: results to `out`, everything said about them to `err`. Guarantee: whatever a value holds, printing it does
// not fail, shows no secret the masker knows, and does nothing to the terminal.
import { MASK, type Masker } from '../core/mask.ts';
import { bounded, toJson, toPrettyJson } from '../core/safe-json.ts';
import { visibleJson, visibleLines } from '../core/terminal-text.ts';

export interface Io {
  out(line: string): void;
  err(line: string): void;
}

/**
 * Standard output and error; a reader that goes away (`| head`) ends the process quietly. What a terminal would act upon is escaped
 * here once more, in the form that JSON takes too, so that no command can forget it.
 */
export function processIo(): Io {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
  return {
    out: (line) => void process.stdout.write(`${visibleLines(line)}\n`),
    err: (line) => void process.stderr.write(`${visibleLines(line)}\n`),
  };
}

/** The value as a command may show it: masked, and cut where it is nested deeper than anybody reads. */
export function shown(value: unknown, masker: Masker): unknown {
  try {
    return masker.value(bounded(value));
  } catch {
    return MASK;
  }
}

/** On one line, for programs. */
export function jsonLine(value: unknown, masker: Masker): string {
  return visibleJson(toJson(shown(value, masker)));
}

/** Indented, for people. */
export function jsonBlock(value: unknown, masker: Masker): string {
  return visibleJson(toPrettyJson(shown(value, masker)));
}
