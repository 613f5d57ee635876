// Property tests look somewhere else each time, except in CI: there a run must say the same of the same commit. LOGPIPE_PROPERTY_RUNS
// is how often each of them is tried at most, for runs that are about something else, as about another Node.
import fc from 'fast-check';

if (process.env.CI) fc.configureGlobal({ seed: 20261128 });

const most = Number(process.env.LOGPIPE_PROPERTY_RUNS);
if (most > 0) {
  fc.installGlobalPlugin(() => {
    let runs = 0;
    return { decorateRun: (run) => (value) => (runs++ < most ? run(value) : new fc.PreconditionFailure(true)) };
  });
}
