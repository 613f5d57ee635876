// Preloaded into a process (`--import`): its wall clock can be set, and nothing else. Each SIGUSR2 sets it by the next number of
// LOGPIPE_TEST_SET_DATE (ms, comma-separated). Timers and the monotonic clock go on, as on a real machine.
const RealDate = Date;
const steps = (process.env.LOGPIPE_TEST_SET_DATE ?? '').split(',').map(Number);
let offsetMs = 0;

globalThis.Date = new Proxy(RealDate, {
  construct: (target, parts: []) =>
    parts.length === 0 ? new target(RealDate.now() + offsetMs) : Reflect.construct(target, parts),
  get: (target, name) => (name === 'now' ? () => RealDate.now() + offsetMs : Reflect.get(target, name)),
});

process.on('SIGUSR2', () => {
  offsetMs += steps.shift() ?? 0;
});
