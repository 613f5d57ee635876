// Configuration files that are read again while logpipe runs. In: a path, and the text that is known. Out: the text, when it has changed.
// Guarantee: a file that is being written, or is missing for a moment, is waited for; symbolic links are followed, so that a swapped link
// is a change.
import { readFileSync, statSync } from 'node:fs';

/** How often to look. */
export const LOOK_MS = 1_000;

/**
 * The text, when it differs from `known` and the file, unless `now`, has not changed since the last look. Call it every `LOOK_MS`.
 * @throws the errors of the file system
 */
export type ChangedText = (path: string, known: string, now: boolean) => string | undefined;

export function createChangedText(): ChangedText {
  const states = new Map<string, string>();
  return (path, known, now) => {
    const { dev, ino, size, mtimeMs, ctimeMs } = statSync(path);
    const state = [dev, ino, size, mtimeMs, ctimeMs].join();
    const [before, phase] = (states.get(path) ?? '').split(' ');
    if (!now && before !== state) {
      states.set(path, `${state} moving`);
      return undefined;
    }
    if (!now && phase !== 'moving') return undefined;
    states.set(path, state);
    const text = readFileSync(path, 'utf8');
    return text === known ? undefined : text;
  };
}
