// Property tests use a new seed each time, except in CI, where the same commit must give the same result. LOGPIPE_PROPERTY_RUNS
// limits how often each of them is tried, for runs that are about something else, such as another Node.
import fc from 'fast-check';

if (process.env.CI) fc.configureGlobal({ seed: 20261128 });

const most = Number(process.env.LOGPIPE_PROPERTY_RUNS);
if (most > 0) {
  fc.installGlobalPlugin(() => {
    let runs = 0;
    return { decorateRun: (run) => (value) => (runs++ < most ? run(value) : new fc.PreconditionFailure(true)) };
  });
}
