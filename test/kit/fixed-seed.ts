// Property tests use a new seed each time, except in CI, where the same commit must give the same result.
import fc from 'fast-check';

if (process.env.CI) fc.configureGlobal({ seed: 20261128 });
