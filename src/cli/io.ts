// Where commands write: results to `out`, everything said about them to `err`. Guarantee: whatever a value holds, printing it does
// not fail, shows no secret the masker knows, and does nothing to the terminal.

import { InvalidArgumentError } from 'commander';
import { bounded, toJson, toPrettyJson, visibleJson, visibleLines } from '../core/safe-json.ts';
import { MASK, type Masker } from '../core/secrets/mask.ts';

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

/** An option's number. @throws InvalidArgumentError naming what was written: `Number` alone makes NaN of it, or 0 of nothing */
export function toNumber(text: string): number {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (Number.isNaN(value)) throw new InvalidArgumentError('A number is needed.');
  return value;
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

// The end of the process after the end of the work. In: a command that is done. Out: an end of the process, also when a library
// has left something open. Guarantee: a process that can end by itself does so at once, with the same status.

/** Enough to write what is on its way to a slow terminal; whoever stops a process waits longer before it kills. */
const GRACE_MS = 2_000;

/**
 * kafkajs loses sight of a connection that breaks while it is being closed, and the socket's timers keep the process alive for
 * ever. Call it when nothing is left to be done.
 */
export function endDespiteLeftovers(graceMs = GRACE_MS): void {
  setTimeout(() => process.exit(), graceMs).unref();
}
