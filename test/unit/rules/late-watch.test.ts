// What is known too late: held while logpipe is behind, told in one summary, never paged.
import { describe, expect, it } from 'vitest';
import { calls, createStage, HOUR, MINUTE, of, SECOND, type Stage, stateOf, T0 } from './kit.ts';

/** Well for ten minutes, read as it comes. */
function begin(stage: Stage): void {
  for (let at = T0 - 10 * MINUTE; at < T0; at += 10 * SECOND) {
    calls(stage, at, { ok: 5 });
    stage.tick(at + SECOND);
  }
}

/** Half an hour that logpipe did not read: an outage from minute 5 to minute 15, also at the end if `still`. */
function unread(stage: Stage, still = false): void {
  for (let minute = 0; minute < 30; minute++) {
    const down = (minute >= 5 && minute < 15) || (still && minute >= 26);
    calls(stage, T0 + minute * MINUTE, down ? { failed: 30 } : { ok: 30 });
  }
}

/** Reads the half hour within a minute, 5 minutes at a time. */
function catchUp(stage: Stage, wallMs = T0 + 30 * MINUTE): ReturnType<Stage['tick']>[] {
  const ticks = [];
  for (let step = 1; step <= 6; step++) {
    ticks.push(stage.tick(wallMs + step * SECOND, { readMs: T0 + step * 5 * MINUTE }));
  }
  ticks.push(stage.tick(wallMs + 10 * SECOND));
  return ticks;
}

describe('after a lag', () => {
  it('nothing fires while behind; what ended meanwhile is told once, with its time', () => {
    const stage = createStage();
    begin(stage);
    unread(stage);
    const ticks = catchUp(stage);
    for (const ticked of ticks) expect(stateOf(ticked, 'high-error-rate')).not.toBe('breached');
    const [summary] = of(ticks.at(-1)!, 'reported-late');
    expect(summary).toMatchObject({ state: 'breached', labels: {} });
    expect(summary!.message).toMatch(/High Error Rate Detected happened 12:0[56]-12:1[789] UTC.*, reported late$/);
    expect(ticks.slice(0, -2).every((ticked) => stateOf(ticked, 'reported-late') === 'clear')).toBe(true);
    // For as long as the rule says, then no more.
    expect(stateOf(stage.tick(T0 + 39 * MINUTE), 'reported-late')).toBe('breached');
    expect(stateOf(stage.tick(T0 + 41 * MINUTE), 'reported-late')).toBe('clear');
  });

  it('what still fires at the head pages as always, and is not in the summary', () => {
    const stage = createStage();
    begin(stage);
    unread(stage, true);
    const last = catchUp(stage).at(-1)!;
    expect(stateOf(last, 'high-error-rate')).toBe('breached');
    expect(of(last, 'reported-late')[0]?.message ?? '').not.toContain('High Error Rate');
  });

  it('what is over at the head does not page on the way there, though it held two minutes before', () => {
    const stage = createStage();
    begin(stage);
    unread(stage);
    const wallMs = T0 + 20 * MINUTE + 50 * SECOND;
    const states = [T0 + 12 * MINUTE, T0 + 18 * MINUTE + 54 * SECOND, wallMs].map((readMs, step) =>
      stateOf(stage.tick(wallMs + step * SECOND, { readMs }), 'elevated-error-rate'),
    );
    expect(states).toEqual(['held', 'held', 'clear']);
  });

  it('what fired before the lag was told in time', () => {
    const stage = createStage();
    begin(stage);
    calls(stage, T0 - 5 * SECOND, { failed: 500 });
    expect(stateOf(stage.tick(T0), 'high-error-rate')).toBe('breached');
    unread(stage);
    expect(of(catchUp(stage).at(-1)!, 'reported-late')[0]?.message ?? '').not.toContain('High Error Rate');
  });

  it('nor is told what the alert state knows to be firing', () => {
    const stage = createStage(undefined, { isFiring: (ruleId) => ruleId === 'high-error-rate' });
    begin(stage);
    unread(stage);
    expect(of(catchUp(stage).at(-1)!, 'reported-late')[0]?.message ?? '').not.toContain('High Error Rate');
  });

  it('a lag without a fault is told by nobody', () => {
    const stage = createStage();
    begin(stage);
    for (let minute = 0; minute < 30; minute++) calls(stage, T0 + minute * MINUTE, { ok: 30 });
    expect(stateOf(catchUp(stage).at(-1)!, 'reported-late')).toBe('clear');
  });
});

describe('late events', () => {
  /** A host whose log was held back for twenty minutes. */
  function late(stage: Stage, failed: number, atMs = T0 + 20 * MINUTE): void {
    for (let minute = 0; minute < 5; minute++) calls(stage, T0 + minute * MINUTE, { failed, arrivalMs: atMs });
  }
  function run(stage: Stage, toMs: number, fromMs: number): ReturnType<Stage['tick']> {
    let last = stage.tick(fromMs);
    for (let at = fromMs; at <= toMs; at += 10 * SECOND) {
      calls(stage, at, { ok: 5 });
      last = stage.tick(at + SECOND);
      expect(stateOf(last, 'high-error-rate')).not.toBe('breached');
    }
    return last;
  }

  it('never page; once no more come, they are told in one summary', () => {
    const stage = createStage();
    begin(stage);
    run(stage, T0 + 20 * MINUTE, T0);
    late(stage, 40);
    expect(stateOf(stage.tick(T0 + 20 * MINUTE + 11 * SECOND), 'reported-late')).toBe('clear');
    const told = run(stage, T0 + 22 * MINUTE, T0 + 20 * MINUTE + 20 * SECOND);
    expect(of(told, 'reported-late')[0]!.message).toMatch(/High Error Rate Detected happened 12:00-12:0[89] UTC/);
    expect(of(told, 'reported-late')[0]!.message).not.toMatch(/Elevated|Tenant/);
  });

  it('that only add to what was paged in time are not told', () => {
    const stage = createStage();
    begin(stage);
    for (let minute = 0; minute < 5; minute++) calls(stage, T0 + minute * MINUTE, { failed: 400 });
    for (let at = T0; at < T0 + 5 * MINUTE; at += 10 * SECOND) stage.tick(at);
    run(stage, T0 + 40 * MINUTE, T0 + 20 * MINUTE);
    late(stage, 40, T0 + 40 * MINUTE);
    expect(stateOf(run(stage, T0 + 43 * MINUTE, T0 + 40 * MINUTE), 'reported-late')).toBe('clear');
  });

  it('that only let begin earlier what was paged in time are not told', () => {
    const stage = createStage();
    begin(stage);
    // In time it is too little for a minute.
    for (let minute = 0; minute < 5; minute++) calls(stage, T0 + minute * MINUTE, { ok: 8, failed: 4 * minute });
    for (let at = T0; at < T0 + 5 * MINUTE; at += 10 * SECOND) stage.tick(at);
    run(stage, T0 + 40 * MINUTE, T0 + 20 * MINUTE);
    late(stage, 40, T0 + 40 * MINUTE);
    expect(stateOf(run(stage, T0 + 43 * MINUTE, T0 + 40 * MINUTE), 'reported-late')).toBe('clear');
  });

  it('that change nothing are not told', () => {
    const stage = createStage();
    begin(stage);
    run(stage, T0 + 20 * MINUTE, T0);
    late(stage, 1);
    expect(stateOf(run(stage, T0 + 23 * MINUTE, T0 + 20 * MINUTE), 'reported-late')).toBe('clear');
  });

  it('of hours ago are judged as well', () => {
    const stage = createStage();
    begin(stage);
    run(stage, T0 + 5 * MINUTE, T0);
    const now = T0 + 3 * HOUR;
    late(stage, 200, now);
    const told = run(stage, now + 2 * MINUTE, now);
    expect(of(told, 'reported-late')[0]!.message).toMatch(/High Error Rate Detected happened 12:0\d-12:0\d UTC/);
  });

  it('of before what a take-over has read are not judged: what came in time then is not known', () => {
    const told = (coveredFromMs: number) => {
      const stage = createStage();
      stage.evaluator.store.putHours([], coveredFromMs);
      const now = T0 + 3 * HOUR;
      run(stage, now, now - 5 * MINUTE);
      late(stage, 200, now);
      return stateOf(run(stage, now + 2 * MINUTE, now + 10 * SECOND), 'reported-late');
    };
    expect(told(T0 + 2 * HOUR)).toBe('clear');
    expect(told(0)).toBe('breached');
  });

  it('read back at the start were reported by whoever evaluated then', () => {
    const stage = createStage();
    late(stage, 40);
    expect(stateOf(run(stage, T0 + 23 * MINUTE, T0 + 20 * MINUTE), 'reported-late')).toBe('clear');
  });
});
