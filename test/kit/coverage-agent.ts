// Loaded before a program (`--import`): finds which files of src/ run because something happens. In: SIGUSR2 when the program is idle, and
// again when it has happened. Out, in the file LOGPIPE_COVERAGE names: `{ because, all }`, paths below src/. `all`: files with any function
// that was called in between. `because`: those with a function that is not called while nothing happens. `<file>.idle` appears when it is
// known what an idle program calls.
import { renameSync, writeFileSync } from 'node:fs';
import { type Profiler, Session } from 'node:inspector';
import { isMainThread } from 'node:worker_threads';

/** Long enough for everything that happens every few seconds. */
const IDLE_MS = 8_000;

const path = process.env.LOGPIPE_COVERAGE;
// Threads of the program have the same options, but only the main one is followed.
if (isMainThread && path !== undefined) follow(path);

function follow(file: string): void {
  const session = new Session();
  session.connect();
  let idle: ReadonlySet<string> | undefined;

  /** Functions called since the last time. */
  function take(then: (called: ReadonlySet<string>) => void): void {
    session.post('Profiler.takePreciseCoverage', (error, answer) => {
      if (error !== null) throw error;
      then(new Set(answer.result.flatMap(calledOf)));
    });
  }

  process.on('SIGUSR2', () => {
    if (idle !== undefined) {
      const background = idle;
      take((called) => {
        const filesOf = (names: string[]) => [...new Set(names.map((name) => name.split(' ')[0]!))].sort();
        const because = filesOf([...called].filter((name) => !background.has(name)));
        writeFileSync(`${file}.part`, JSON.stringify({ because, all: filesOf([...called]) }));
        renameSync(`${file}.part`, file);
      });
      return;
    }
    session.post('Profiler.enable');
    session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: false }, () => {
      setTimeout(() => {
        take((called) => {
          idle = called;
          writeFileSync(`${file}.idle`, '');
        });
      }, IDLE_MS).unref();
    });
  });
}

/** `<path below src/> <where the function begins>`; a file's top level does not count as a function. */
function calledOf({ url, functions }: Profiler.ScriptCoverage): string[] {
  const name = /\/dist\/src\/(.*)\.js$/.exec(url)?.[1];
  if (name === undefined) return [];
  return functions
    .filter(({ functionName, ranges }) => functionName !== '' && ranges[0]!.count > 0)
    .map(({ ranges }) => `${name}.ts ${ranges[0]!.startOffset}`);
}
