// The rules file while logpipe runs. In: the file, looked at every second and when somebody asks. Out: rules whenever its text has
// changed and is right. Guarantee: a wrong file changes nothing and is said once; a file that is being written, or is away for a
// moment, is waited for; what it leads to through symbolic links is what counts, so that a swapped link is a change.
import { readFileSync, statSync } from 'node:fs';
import type { Clock } from '../core/clock.ts';
import type { Environment } from '../core/config-loader.ts';
import { errorText } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Measures } from '../measure/measure-config.ts';
import { parseRules, type Rules } from './rule-config.ts';

const LOOK_MS = 1_000;

export interface RulesFileOptions {
  readonly rules: WatchedFile;
  /** Read at the start only: a change of it is said. */
  readonly measures: WatchedFile;
}

/** A file and the text of it that holds. */
export interface WatchedFile {
  readonly file: string;
  readonly text: string;
}

export interface RulesFileDeps {
  readonly measures: Measures;
  readonly env: Environment;
  readonly clock: Clock;
  readonly log: Log;
  /** Takes rules that are right. @returns why they take a restart; the rules of before hold then */
  readonly onRules: (rules: Rules) => string | undefined;
}

export interface RulesFile {
  /** Looks at once, and says what came of it, also when nothing has changed. */
  look(): void;
  close(): void;
}

export function watchRulesFile(options: RulesFileOptions, deps: RulesFileDeps): RulesFile {
  const { clock, log, measures, env } = deps;
  const { file } = options.rules;
  /** The last text that was looked at, right or wrong. */
  let seen = options.rules.text;
  let refused = false;
  let measuresText = options.measures.text;
  const states = new Map<string, string>();
  let away = false;
  let cancel = () => {};

  /** The text when it is another one than `known`, and, unless `now`, has not been written to for a second. */
  function changed(path: string, known: string, now: boolean): string | undefined {
    const { dev, ino, size, mtimeMs, ctimeMs } = statSync(path);
    const state = [dev, ino, size, mtimeMs, ctimeMs].join();
    const [before, settled] = (states.get(path) ?? '').split(' ');
    if (!now && before !== state) {
      states.set(path, `${state} moving`);
      return undefined;
    }
    if (!now && settled !== 'moving') return undefined;
    states.set(path, state);
    const text = readFileSync(path, 'utf8');
    return text === known ? undefined : text;
  }

  function take(text: string): void {
    seen = text;
    refused = true;
    let rules: Rules;
    try {
      rules = parseRules(text, env, file, measures);
    } catch (error) {
      log.error('The changed rules file is refused as a whole; the rules of before hold', { error: errorText(error) });
      return;
    }
    const problem = deps.onRules(rules);
    if (problem !== undefined) {
      log.error('The changed rules take effect after a restart; until then the rules of before hold', { why: problem });
      return;
    }
    refused = false;
    log.info('The rules were read again', { file, rules: rules.length });
  }

  function lookAt(now: boolean): void {
    try {
      const text = changed(file, seen, now);
      if (text !== undefined) take(text);
      else if (now)
        log.info(refused ? 'The rules file is still the one that was refused' : 'The rules have not changed', { file });
      away = false;
    } catch (error) {
      if (!away || now) log.warn('The rules file cannot be read; the rules hold', { file, error: errorText(error) });
      away = true;
    }
    try {
      const text = changed(options.measures.file, measuresText, now);
      if (text === undefined) return;
      measuresText = text;
      log.warn('The measures file has changed: measures take effect after a restart of every counter and alerter', {
        file: options.measures.file,
      });
    } catch {
      // Nothing is read of it.
    }
  }

  function schedule(): void {
    cancel = clock.after(LOOK_MS, () => {
      lookAt(false);
      schedule();
    });
  }
  schedule();

  return {
    look: () => lookAt(true),
    close: () => cancel(),
  };
}
