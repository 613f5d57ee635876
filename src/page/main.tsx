// The frame of the page: what stands around every view. In: app.ts. Out: the header with the name, the environment and the state of the
// connection, the way between the views, the field for a token. Guarantee: changes of alerts are told to screen readers, ticks are not; the
// title says which view it is and how many alerts fire.
import { effect } from '@preact/signals';
import { type ComponentType, render } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { VIEWS, type View } from './address.ts';
import { address, connection, nowMs, retry, session, start, tick } from './app.ts';
import { clockTime, duration, plural } from './format.ts';
import { Link, sentence } from './parts.tsx';
import { Alerts } from './views/alerts.tsx';
import { Logs } from './views/logs.tsx';
import { Now } from './views/now.tsx';
import { OnCall } from './views/on-call.tsx';
import { Pipeline } from './views/pipeline.tsx';
import { Replay } from './views/replay.tsx';

const PAGES: Readonly<Record<View, { readonly title: string; readonly show: ComponentType }>> = {
  now: { title: 'Now', show: Now },
  alerts: { title: 'Alerts', show: Alerts },
  logs: { title: 'Logs', show: Logs },
  pipeline: { title: 'Pipeline', show: Pipeline },
  replay: { title: 'Replay', show: Replay },
  'on-call': { title: 'On call', show: OnCall },
};

function Page() {
  const view = address.view.value;
  const main = useRef<HTMLElement>(null);
  const before = useRef(view);
  // Who changes the view by keyboard goes on in it, not at the end of the header.
  useEffect(() => {
    if (before.current !== view) main.current?.focus({ preventScroll: true });
    if (before.current !== view) scrollTo(0, 0);
    before.current = view;
  }, [view]);
  const { show: Shown } = PAGES[view];
  const isLocked = session.isWanted.value && session.session.value === null;
  const skip = (event: Event) => {
    event.preventDefault();
    main.current?.focus();
  };
  return (
    <>
      {/* biome-ignore lint/a11y/useValidAnchor: it leads to a place in the page; the address keeps its parameters */}
      <a class="skip" href="#main" onClick={skip}>
        Skip to the content
      </a>
      <Header view={view} />
      <main id="main" tabIndex={-1} ref={main} data-view={view}>
        {session.isWanted.value && <TokenField isAll={isLocked} />}
        {isLocked ? null : (
          <>
            <LinkTrouble />
            <Stale />
            <Shown />
          </>
        )}
      </main>
      <Footer />
      <Announcer />
    </>
  );
}

function Header({ view }: { view: View }) {
  const environment = session.session.value?.environment;
  const firing = tick.value?.alerts?.firing ?? 0;
  return (
    <header class="top">
      <div class="top-row">
        <p class="brand">
          <Link to="now">logpipe</Link>
          {environment !== undefined && environment !== '' && <span class="environment">{environment}</span>}
        </p>
        <ConnectionState />
      </div>
      <nav aria-label="Views">
        <ul>
          {VIEWS.map((to) => (
            <li key={to}>
              <Link to={to} current={to === view}>
                {PAGES[to].title}
                {to === 'alerts' && firing > 0 && (
                  <span class="firing-count">
                    {firing}
                    <span class="unseen"> firing</span>
                  </span>
                )}
              </Link>
            </li>
          ))}
        </ul>
      </nav>
    </header>
  );
}

function ConnectionState() {
  const now = connection.value;
  const [tone, text] = inWords();
  return (
    <p class={`connection ${tone}`} data-state={now.state}>
      <span class="dot" aria-hidden="true" />
      <span>{text}</span>
      {now.state === 'waiting' && (
        <button type="button" class="quiet" onClick={retry} title={sentence(now.why)}>
          Try now
        </button>
      )}
    </p>
  );

  function inWords(): readonly [tone: string, text: string] {
    switch (now.state) {
      case 'connecting':
        return ['quiet', 'Connecting'];
      case 'live':
        return ['good', 'Live'];
      case 'silent':
        return ['warn', tick.value === null ? 'Nothing heard yet' : `Silent since ${agoOf(tick.value.at)}`];
      case 'paused':
        return ['quiet', 'Paused'];
      case 'refused':
        return ['warn', 'Needs a token'];
      case 'waiting':
        return ['bad', `Not reached, again in ${duration(Math.max(0, now.retryAtMs - nowMs.value))}`];
    }
  }
}

const agoOf = (at: string) => duration(nowMs.value - Date.parse(at));

/** What stands on the page is old: it must not look like now. */
function Stale() {
  const { state } = connection.value;
  const last = tick.value;
  if (last === null || state === 'live' || state === 'connecting') return null;
  const atMs = Date.parse(last.at);
  return (
    <div class="notice warn" role="status">
      <p>
        <strong>Not live.</strong> What you see is how things stood at {clockTime(atMs, nowMs.value, true)}.
      </p>
    </div>
  );
}

function LinkTrouble() {
  const trouble = session.trouble.value;
  if (trouble === null || session.isWanted.value) return null;
  return (
    <div class="notice warn" role="status">
      <p>The address brought a token that was not taken: {sentence(trouble)} You can read, and change nothing.</p>
    </div>
  );
}

function TokenField({ isAll }: { isAll: boolean }) {
  const [text, setText] = useState('');
  const [isTrying, setTrying] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  const trouble = session.trouble.value;
  useEffect(() => field.current?.focus(), []);
  const Heading = isAll ? 'h1' : 'h2';
  const submit = async (event: Event) => {
    event.preventDefault();
    setTrying(true);
    await session.enter(text.trim());
    setTrying(false);
    if (session.trouble.peek() === null) setText('');
    else field.current?.focus();
  };
  return (
    <form class="token" onSubmit={submit}>
      <Heading>{isAll ? 'This page needs a token' : 'This needs a token'}</Heading>
      <p id="token-help">
        It is one of <code>http.tokens</code> in the configuration. On the pipeline’s machine, <code>logpipe page</code>{' '}
        prints an address that brings its own. The token stays in this tab.
      </p>
      <div class="token-row">
        <label for="token">Token</label>
        <input
          id="token"
          ref={field}
          type="password"
          autoComplete="off"
          required
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
          aria-describedby={trouble === null ? 'token-help' : 'token-help token-trouble'}
          aria-invalid={trouble !== null}
        />
        <button type="submit" class="primary" disabled={isTrying}>
          {isTrying ? 'Trying …' : 'Use it'}
        </button>
        {!isAll && (
          <button type="button" onClick={() => session.want(false)}>
            Cancel
          </button>
        )}
      </div>
      {trouble !== null && (
        <p id="token-trouble" class="field-problem" role="alert">
          {sentence(trouble)}
        </p>
      )}
    </form>
  );
}

function Footer() {
  const last = tick.value;
  const who = session.session.value;
  return (
    <footer class="bottom">
      {last !== null && (
        <p>
          logpipe {last.version}, {last.roles.join(' and ')}, up {duration(last.uptimeSeconds * 1_000)}
        </p>
      )}
      {who !== null && (
        <p>
          {who.name === null ? 'Reading from this machine, without a token' : `Token ${who.name}`}
          {who.mayAct ? '' : ', read-only'}
          {!who.mayAct && (
            <button type="button" class="quiet" onClick={() => session.want(true)}>
              Enter a token
            </button>
          )}
          {who.name !== null && (
            <button type="button" class="quiet" onClick={session.forget}>
              Forget it
            </button>
          )}
        </p>
      )}
    </footer>
  );
}

/** Says when incidents begin, are acknowledged and end, once each. */
function Announcer() {
  const alerts = tick.value?.alerts;
  const text = alerts === null || alerts === undefined ? undefined : alertsInWords(alerts.firing, alerts.acknowledged);
  const before = useRef<string>(undefined);
  const [said, say] = useState('');
  useEffect(() => {
    if (text === undefined) return;
    if (before.current !== undefined && before.current !== text) say(text);
    before.current = text;
  }, [text]);
  return (
    <div class="unseen" aria-live="polite" data-testid="announcer">
      {said}
    </div>
  );
}

function alertsInWords(firing: number, acknowledged: number): string {
  if (firing + acknowledged === 0) return 'No incident is open any more';
  return `${plural(firing, 'incident')} firing, ${acknowledged} acknowledged`;
}

effect(() => {
  const firing = tick.value?.alerts?.firing ?? 0;
  document.title = `${firing > 0 ? `(${firing} firing) ` : ''}${PAGES[address.view.value].title} – logpipe`;
});

void start();
render(<Page />, document.getElementById('page')!);
