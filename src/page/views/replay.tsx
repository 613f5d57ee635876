// Replay: bringing a stretch of logs back, judging one by rules, and what another threshold would have paged. In: the address, which has the
// range, the conditions, the target and the rule; /api/v1/jobs. Out: jobs, and what came of them. Guarantee: a replay is started only as it
// was planned; whatever changes in its form makes the plan void.
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import type { JobRequest, JobsAnswer } from '../../ops/page-data.ts';
import { rangeOf } from '../address.ts';
import { address, get, mayAct, useAnswer } from '../app.ts';
import { Choice, Loading, Problem, Section } from '../parts.tsx';
import { NameField, NeedsToken } from './acting.tsx';
import { conditionsOf, replayResult } from './job-data.ts';
import { JobHere, JobItem, useJob } from './jobs.tsx';
import { pipelineNow, RangeFields, timesOf } from './range-fields.tsx';

const RANGE = '1h';
const DAY_MS = 86_400_000;
const ASK_EVERY_MS = 1_000;

export function Replay() {
  const jobs = useAnswer('jobs', (signal) => get<JobsAnswer>('jobs', {}, signal));
  const isRunning = jobs.value?.jobs.some(({ state }) => state === 'running') === true;
  const again = useRef(jobs.again);
  again.current = jobs.again;
  useEffect(() => {
    if (!isRunning) return;
    const timer = setInterval(() => again.current(), ASK_EVERY_MS);
    return () => clearInterval(timer);
  }, [isRunning]);
  return (
    <div class="replay">
      <div class="view-head">
        <h1>Replay</h1>
        <NameField />
      </div>
      <NeedsToken what="start a job" />
      <div class="filters">
        <RangeFields fallback={RANGE} />
      </div>
      <div class="cards">
        <ReplayCard onChange={jobs.again} />
        <BacktestCard onChange={jobs.again} />
        <WhatIfCard onChange={jobs.again} />
      </div>
      <Section title="Jobs">
        <Problem text={jobs.error} again={jobs.again} />
        {jobs.value === undefined && jobs.isLoading && <Loading what="jobs" />}
        {jobs.value?.jobs.length === 0 && <p class="dim">None was started since the pipeline runs.</p>}
        {jobs.value !== undefined && jobs.value.jobs.length > 0 && (
          <ul class="jobs" aria-label="Jobs">
            {jobs.value.jobs.map((job) => (
              <JobItem key={job.id} job={job} onChanged={jobs.again} />
            ))}
          </ul>
        )}
      </Section>
    </div>
  );
}

// ---- bringing logs back ----

type Target = Extract<JobRequest, { kind: 'replay' }>['target'];

const TARGETS = [
  ['in-place', 'In place'],
  ['index', 'Other index'],
  ['topic', 'Topic'],
] as const;

function ReplayCard({ onChange }: { onChange: () => void }) {
  const id = useId();
  const plan = useJob(onChange);
  const run = useJob(onChange);
  const [wrong, setWrong] = useState<string>();
  const where = address.text('where');
  const kind = TARGETS.find(([value]) => value === address.text('target'))?.[0] ?? 'in-place';
  const name = address.text('name');
  const form = JSON.stringify([['range', 'from', 'to'].map((one) => address.text(one)), where, kind, name]);
  const planned = useRef<{ readonly form: string; readonly request: Extract<JobRequest, { kind: 'replay' }> }>(
    undefined,
  );
  const isPlanned =
    planned.current?.form === form && plan.job?.state === 'done' && replayResult(plan.job.result) !== undefined;
  const isBusy = plan.isStarting || run.isStarting || plan.job?.state === 'running' || run.job?.state === 'running';

  const makePlan = (event: Event) => {
    event.preventDefault();
    if (kind !== 'in-place' && name === '') {
      setWrong(kind === 'index' ? 'Give the other index a name.' : 'Give the name of the topic.');
      return;
    }
    setWrong(undefined);
    run.forget();
    const { fromMs, toMs } = rangeOf(address.params.peek(), RANGE, pipelineNow());
    const target: Target = kind === 'in-place' ? { kind } : { kind, name };
    const conditions = conditionsOf(where);
    const request = {
      kind: 'replay' as const,
      ...timesOf(fromMs, toMs),
      ...(conditions.length === 0 ? {} : { where: conditions }),
      target,
      dryRun: true,
    };
    planned.current = { form, request };
    void plan.start(request);
  };
  const start = () => {
    if (planned.current !== undefined) void run.start({ ...planned.current.request, dryRun: false });
  };

  return (
    <Section title="Replay">
      <p class="dim">
        Brings logs back into the index, after an outage or a mistake. It raises no alert, and what is there already
        stays.
      </p>
      <form class="job-form" onSubmit={makePlan}>
        <div class="field">
          <label for={`${id}where`}>Only where</label>
          <input
            id={`${id}where`}
            type="text"
            autoComplete="off"
            autoCapitalize="off"
            spellcheck={false}
            placeholder="level=error tenantId=t-7"
            value={where}
            onChange={(event) => address.set({ where: event.currentTarget.value.trim() }, 'replace')}
            aria-describedby={`${id}help`}
          />
          <p class="dim" id={`${id}help`}>
            <code>field=value</code>, <code>field!=value</code> or <code>field~text</code>, with spaces between; all
            must hold. A value with spaces stands in quotes.
          </p>
        </div>
        <div class="field">
          <span class="label" aria-hidden="true">
            Into
          </span>
          <Choice
            label="Into"
            options={TARGETS}
            value={kind}
            onChoose={(value) => address.set({ target: value === 'in-place' ? null : value }, 'replace')}
          />
        </div>
        {kind !== 'in-place' && (
          <div class="field">
            <label for={`${id}name`}>{kind === 'index' ? 'Name' : 'Name of the topic'}</label>
            <input
              id={`${id}name`}
              type="text"
              autoComplete="off"
              autoCapitalize="off"
              spellcheck={false}
              value={name}
              onChange={(event) => address.set({ name: event.currentTarget.value.trim() }, 'replace')}
              aria-invalid={wrong !== undefined}
              aria-describedby={wrong === undefined ? undefined : `${id}wrong`}
            />
            {wrong !== undefined && (
              <p class="field-problem" id={`${id}wrong`} role="alert">
                {wrong}
              </p>
            )}
          </div>
        )}
        <div class="actions">
          <button type="submit" class={isPlanned ? undefined : 'primary'} disabled={!mayAct.value || isBusy}>
            Plan
          </button>
          <button
            type="button"
            class={isPlanned ? 'primary' : undefined}
            disabled={!mayAct.value || !isPlanned || isBusy}
            onClick={start}
            aria-describedby={`${id}start`}
          >
            Start
          </button>
          <span class="dim" id={`${id}start`}>
            {isPlanned ? 'Starts exactly what was planned.' : 'Start is possible once there is a plan of it.'}
          </span>
        </div>
      </form>
      <JobHere running={plan} />
      <JobHere running={run} />
    </Section>
  );
}

// ---- rules ----

interface StatusAnswer {
  readonly alerting: {
    readonly rules: readonly {
      readonly id: string;
      readonly title: string;
      readonly sets: readonly { readonly threshold: number | null; readonly thresholdText: string | null }[];
    }[];
  } | null;
}

type RuleChoice = NonNullable<StatusAnswer['alerting']>['rules'][number];

function useRules(): { readonly rules: readonly RuleChoice[]; readonly error: string | undefined; again(): void } {
  const { value, error, again } = useAnswer('status', (signal) => get<StatusAnswer>('status', {}, signal));
  return { rules: value?.alerting?.rules ?? [], error, again };
}

interface RuleFieldProps {
  rules: readonly RuleChoice[];
  value: string;
  /** Of no rule; absent where one has to be chosen. */
  all?: string;
  onChoose: (rule: string) => void;
}

/** A list where the rules are known here, and a text where another instance evaluates. */
function RuleField({ rules, value, all, onChoose }: RuleFieldProps) {
  const id = useId();
  const isKnown = value === '' || rules.some((rule) => rule.id === value);
  return (
    <div class="field">
      <label for={id}>Rule</label>
      {rules.length === 0 ? (
        <input
          id={id}
          type="text"
          autoComplete="off"
          placeholder={all}
          value={value}
          onChange={(event) => onChoose(event.currentTarget.value.trim())}
        />
      ) : (
        <select id={id} value={value} onChange={(event) => onChoose(event.currentTarget.value)}>
          <option value="">{all ?? 'Choose a rule'}</option>
          {!isKnown && <option value={value}>{value}</option>}
          {rules.map((rule) => (
            <option key={rule.id} value={rule.id}>
              {rule.id}: {rule.title}
            </option>
          ))}
        </select>
      )}
    </div>
  );
}

function BacktestCard({ onChange }: { onChange: () => void }) {
  const running = useJob(onChange);
  const { rules, error, again } = useRules();
  const rule = address.text('rule');
  const submit = (event: Event) => {
    event.preventDefault();
    const { fromMs, toMs } = rangeOf(address.params.peek(), RANGE, pipelineNow());
    void running.start({ kind: 'backtest', ...timesOf(fromMs, toMs), ...(rule === '' ? {} : { rule }) });
  };
  return (
    <Section title="Backtest">
      <p class="dim">What the rules would have fired over this time. Nobody is told anything.</p>
      <Problem text={error} again={again} />
      <form class="job-form" onSubmit={submit}>
        <RuleField
          rules={rules}
          value={rule}
          all="All rules"
          onChoose={(value) => address.set({ rule: value }, 'replace')}
        />
        <div class="actions">
          <button type="submit" class="primary" disabled={!mayAct.value || isBusy(running)}>
            Run the backtest
          </button>
        </div>
      </form>
      <JobHere running={running} />
    </Section>
  );
}

function WhatIfCard({ onChange }: { onChange: () => void }) {
  const id = useId();
  const running = useJob(onChange);
  const { rules } = useRules();
  const [wrong, setWrong] = useState<string>();
  const rule = address.text('if');
  const threshold = address.text('threshold');
  const present = rules.find((one) => one.id === rule)?.sets.find((set) => set.threshold !== null);
  const submit = (event: Event) => {
    event.preventDefault();
    const value = Number(threshold);
    if (rule === '') return setWrong('Choose a rule.');
    if (threshold === '' || !Number.isFinite(value)) return setWrong('Write the threshold as a number, like 0.05.');
    setWrong(undefined);
    const nowMs = pipelineNow();
    void running.start({ kind: 'backtest', ...timesOf(nowMs - DAY_MS, nowMs), rule, threshold: value });
  };
  return (
    <Section title="What if">
      <p class="dim">What another threshold would have paged in the last day, beside what there is now.</p>
      <form class="job-form" onSubmit={submit} noValidate>
        <RuleField rules={rules} value={rule} onChoose={(value) => address.set({ if: value }, 'replace')} />
        <div class="field">
          <label for={`${id}threshold`}>New threshold</label>
          <input
            id={`${id}threshold`}
            type="text"
            inputMode="decimal"
            autoComplete="off"
            value={threshold}
            onChange={(event) =>
              address.set({ threshold: event.currentTarget.value.trim().replace(',', '.') }, 'replace')
            }
            aria-invalid={wrong !== undefined}
            aria-describedby={`${id}help${wrong === undefined ? '' : ` ${id}wrong`}`}
          />
          <p class="dim" id={`${id}help`}>
            {present === undefined
              ? 'In the unit of its measure: a share from 0 to 1, ms, or a number.'
              : `Now: ${present.threshold}, which is ${present.thresholdText}.`}
          </p>
        </div>
        {wrong !== undefined && (
          <p class="field-problem" id={`${id}wrong`} role="alert">
            {wrong}
          </p>
        )}
        <div class="actions">
          <button type="submit" class="primary" disabled={!mayAct.value || isBusy(running)}>
            See what it would page
          </button>
        </div>
      </form>
      <JobHere running={running} />
    </Section>
  );
}

function isBusy({ job, isStarting }: ReturnType<typeof useJob>): boolean {
  return isStarting || job?.state === 'running';
}
