// Property tests look somewhere else each time, except in CI: there a run must say the same of the same commit.
import fc from 'fast-check';

if (process.env.CI) fc.configureGlobal({ seed: 20261128 });
