// Jobs: starting one, following it, canceling it, and what came of it. In: requests, and GET /api/v1/jobs. Out: progress in words, and
// results as tables and timelines. Guarantee: a running job is asked for once a second, an ended one never again; nothing is started twice.
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Job, JobRequest } from '../../ops/page-data.ts';
import { ApiError } from '../api.ts';
import { del, get, mayAct, post, useAnswer } from '../app.ts';
import { duration, fullTime, plural } from '../format.ts';
import { toneOfPriority } from '../incidents.ts';
import { Badge, Loading, Problem, sentence, Time, type Tone } from '../parts.tsx';
import { byWhom } from './acting.tsx';
import {
  type Backtested,
  backtestOf,
  cutOf,
  jobTitle,
  pagesText,
  type ReplayResult,
  replayLines,
  replayResult,
  type TimelineIncident,
  whatIfOf,
} from './job-data.ts';
import { Timeline } from './timeline.tsx';

const ASK_EVERY_MS = 1_000;

export interface Running {
  /** The one that was started here, as it stands. */
  readonly job: Job | undefined;
  readonly error: string | undefined;
  readonly isStarting: boolean;
  /** Nothing, while one is being started or runs. */
  start(request: JobRequest): Promise<void>;
  cancel(): Promise<void>;
  forget(): void;
}

/** @param onChange a job has begun or ended */
export function useJob(onChange: () => void): Running {
  const [job, setJob] = useState<Job>();
  const [error, setError] = useState<string>();
  const [isStarting, setStarting] = useState(false);
  const busy = useRef(false);
  const changed = useRef(onChange);
  changed.current = onChange;
  const id = job?.state === 'running' ? job.id : undefined;

  useEffect(() => {
    if (id === undefined) return;
    const own = new AbortController();
    const follow = async () => {
      while (!own.signal.aborted) {
        await new Promise((resolve) => setTimeout(resolve, ASK_EVERY_MS));
        const newest = await get<Job>(`jobs/${encodeURIComponent(id)}`, {}, own.signal).catch((reason: unknown) => {
          if (!own.signal.aborted) setError(errorText(reason));
          // It may be reached again, but not come back.
          return reason instanceof ApiError && reason.status === 404 ? null : undefined;
        });
        if (own.signal.aborted || newest === null) return;
        if (newest === undefined) continue;
        setError(undefined);
        setJob(newest);
        if (newest.state !== 'running') {
          changed.current();
          return;
        }
      }
    };
    void follow();
    return () => own.abort();
  }, [id]);

  return {
    job,
    error,
    isStarting,
    async start(request) {
      if (busy.current || id !== undefined) return;
      busy.current = true;
      setStarting(true);
      setError(undefined);
      setJob(undefined);
      try {
        setJob(await post<Job>('jobs', { ...request, ...byWhom() }));
        changed.current();
      } catch (reason) {
        setError(errorText(reason));
      } finally {
        busy.current = false;
        setStarting(false);
      }
    },
    async cancel() {
      if (id === undefined) return;
      try {
        await cancelJob(id);
      } catch (reason) {
        setError(errorText(reason));
      }
    },
    forget() {
      setJob(undefined);
      setError(undefined);
    },
  };
}

export function cancelJob(id: string): Promise<unknown> {
  return del(`jobs/${encodeURIComponent(id)}`);
}

export function errorText(reason: unknown): string {
  return reason instanceof ApiError ? reason.message : 'the page could not make sense of the answer';
}

// ---- how it stands ----

const STATE_WORDS: Readonly<Record<Job['state'], readonly [tone: Tone, text: string]>> = {
  running: ['info', 'running'],
  done: ['good', 'done'],
  failed: ['bad', 'failed'],
  canceled: ['quiet', 'canceled'],
};

export function JobState({ state }: Pick<Job, 'state'>) {
  const [tone, text] = STATE_WORDS[state];
  return <Badge tone={tone}>{text}</Badge>;
}

/** Of a job that was started in a form: its progress, and then its result. */
export function JobHere({ running }: { running: Running }) {
  const { job, error, isStarting } = running;
  return (
    <div class="job-here">
      <p class="unseen" role="status">
        {job === undefined ? '' : `${jobTitle(job)}: ${STATE_WORDS[job.state][1]}`}
      </p>
      {isStarting && <p class="dim">Starting …</p>}
      <Problem text={error} />
      {job !== undefined && (
        <>
          <div class="job-line">
            <JobState state={job.state} />
            <Progress job={job} />
            {job.state === 'running' && mayAct.value && (
              <button type="button" onClick={running.cancel}>
                Cancel
              </button>
            )}
          </div>
          {job.error !== null && <Problem text={job.error} />}
          {job.result !== null && <Result job={job} />}
        </>
      )}
    </div>
  );
}

export function Progress({ job: { state, progress, share, started, ended } }: { job: Job }) {
  const endMs = ended === null ? undefined : Date.parse(ended);
  return (
    <div class="progress">
      {state === 'running' && (
        <progress aria-label="Progress" {...(share === null ? {} : { value: Math.min(1, share), max: 1 })} />
      )}
      <span class="dim">
        {<bdi>{progress ?? (state === 'running' ? 'it has said nothing yet' : '')}</bdi>}
        {endMs !== undefined && ` took ${duration(endMs - Date.parse(started))}`}
      </span>
    </div>
  );
}

// ---- what came of it ----

export function Result({ job: { request, result } }: { job: Job }) {
  const replayed = request.kind === 'replay' ? replayResult(result) : undefined;
  const whatIf = whatIfOf(result);
  const tested = backtestOf(result);
  const cut = cutOf(result);
  return (
    <>
      {replayed !== undefined && <Replayed result={replayed} />}
      {whatIf !== undefined && <WhatIf {...whatIf} />}
      {tested !== undefined && <Backtest result={tested} />}
      {(replayed ?? whatIf ?? tested) === undefined && <Unreadable />}
      {cut !== undefined && <p class="dim">It is longer than what is kept. Left out: {cut}.</p>}
    </>
  );
}

function Replayed({ result }: { result: ReplayResult }) {
  return (
    <>
      <ul class="plain-list result-lines">
        {replayLines(result).map((line) => (
          <li key={line}>{line}</li>
        ))}
      </ul>
      <Gaps gaps={result.gaps} />
    </>
  );
}

function Unreadable() {
  return <p class="dim">The command has ended, and has said nothing that this page understands.</p>;
}

function Gaps({ gaps = [] }: { gaps?: readonly string[] | undefined }) {
  if (gaps.length === 0) return null;
  return (
    <div class="notice warn">
      {gaps.slice(0, 5).map((gap) => (
        <p key={gap}>{sentence(gap)}</p>
      ))}
    </div>
  );
}

function Backtest({ result }: { result: Backtested }) {
  const { records, gaps, timeline } = result;
  const { alerts, incidents, pages } = timeline;
  return (
    <>
      <p>
        Over {plural(records, 'record')}: <strong>{plural(alerts.length, 'alert')}</strong>,{' '}
        {plural(incidents.length, 'incident')}, <strong>{plural(pages.total, 'page')}</strong>.
      </p>
      <Gaps gaps={gaps} />
      <Fired result={result} title="What would have fired" paged="Who would have been called" />
    </>
  );
}

function WhatIf({ before, after }: { before: Backtested; after: Backtested }) {
  const [now, then] = [before.timeline.pages.total, after.timeline.pages.total];
  return (
    <>
      <p>
        <strong>It {pagesText(then, now)}.</strong>
      </p>
      <Gaps gaps={before.gaps} />
      <h3>With the new threshold: {plural(then, 'page')}</h3>
      <Fired result={after} title="Alerts with the new threshold" paged="Pages with the new threshold" />
      <h3>As it is now: {plural(now, 'page')}</h3>
      <Fired result={before} title="Alerts as it is now" paged="Pages as it is now" />
    </>
  );
}

interface FiredProps {
  result: Backtested;
  title: string;
  paged: string;
}

function Fired({ result: { timeline, from, to }, title, paged }: FiredProps) {
  const { alerts, incidents } = timeline;
  if (alerts.length + incidents.length === 0) return <p class="dim">Nothing would have fired.</p>;
  return (
    <>
      <Timeline alerts={alerts} from={from} to={to} title={title} />
      <Paged incidents={incidents} title={paged} />
    </>
  );
}

const MOST_PAGED = 50;

function Paged({ incidents, title }: { incidents: readonly TimelineIncident[]; title: string }) {
  const paged = incidents.filter(({ pages }) => pages > 0);
  if (paged.length === 0) return null;
  return (
    <>
      <p class="list-title">{title}</p>
      <ul class="plain-list" aria-label={title}>
        {paged.slice(0, MOST_PAGED).map(({ group, first, priority, title: what, pages }) => (
          <li key={`${group} ${first}`}>
            <Badge tone={toneOfPriority(priority)}>{priority}</Badge> <bdi>{what}</bdi>{' '}
            <span class="dim">
              {fullTime(Date.parse(first)).slice(0, 19)}, {plural(pages, 'page')}
            </span>
          </li>
        ))}
      </ul>
      {paged.length > MOST_PAGED && <p class="dim">And {paged.length - MOST_PAGED} more.</p>}
    </>
  );
}

/** The list leaves results out, because they may be long. */
function Fetched({ id }: { id: string }) {
  const { value, error, isLoading, again } = useAnswer(id, (signal) =>
    get<Job>(`jobs/${encodeURIComponent(id)}`, {}, signal),
  );
  return (
    <>
      <Problem text={error} again={again} />
      {value === undefined && isLoading && <Loading what="the result" />}
      {value !== undefined &&
        (value.result === null ? <p class="dim">Nothing is kept of it.</p> : <Result job={value} />)}
    </>
  );
}

/** In the list of all jobs. */
export function JobItem({ job, onChanged }: { job: Job; onChanged: () => void }) {
  const [error, setError] = useState<string>();
  const [isOpen, setOpen] = useState(false);
  const { request } = job;
  const cancel = () => {
    setError(undefined);
    cancelJob(job.id).then(onChanged, (reason: unknown) => setError(errorText(reason)));
  };
  const range = [request.from, request.to].map((at) => fullTime(Date.parse(at)).slice(0, 16)).join(' to ');
  return (
    <li class="job">
      <div class="job-line">
        <JobState state={job.state} />
        <strong>
          <bdi>{jobTitle(job)}</bdi>
        </strong>
        {job.state === 'running' && mayAct.value && (
          <button type="button" onClick={cancel}>
            Cancel<span class="unseen"> {jobTitle(job)}</span>
          </button>
        )}
      </div>
      <p class="dim">
        {range}
        {request.kind === 'replay' &&
          request.where !== undefined &&
          request.where.length > 0 &&
          `, where ${request.where.join(' and ')}`}
        ; started <Time at={job.started} /> by <bdi>{job.by}</bdi>
      </p>
      <Progress job={job} />
      {job.error !== null && <Problem text={job.error} />}
      <Problem text={error} />
      {job.state !== 'running' && (
        <details onToggle={(event) => setOpen(event.currentTarget.open)}>
          <summary>
            What came of it<span class="unseen">: {jobTitle(job)}</span>
          </summary>
          {isOpen && <Fetched id={job.id} />}
        </details>
      )}
    </li>
  );
}
