// Loaded into a process and each of its threads before anything else: puts its wall clock ahead by the ms that the file
// LOGPIPE_TEST_CLOCK holds. Monotonic clocks and timers are not affected, as when somebody sets the clock.
import { readFileSync } from 'node:fs';

const file = process.env.LOGPIPE_TEST_CLOCK ?? '';
const LOOK_MS = 20;
const Real = Date;
let shiftMs = 0;

class ShiftedDate extends Real {
  constructor(...args: []) {
    if (args.length === 0) super(Real.now() + shiftMs);
    else super(...args);
  }

  static override now(): number {
    return Real.now() + shiftMs;
  }
}

globalThis.Date = ShiftedDate as DateConstructor;
setInterval(() => {
  try {
    const text = readFileSync(file, 'utf8');
    // An empty file is just being written.
    if (text !== '') shiftMs = Number(text);
  } catch {
    // Not written yet.
  }
}, LOOK_MS).unref();
