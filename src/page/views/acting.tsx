// Giving a command, and what became of it. In: a request to the API. Out: its outcome in words, and a field for the name that the record
// shows. Guarantee: nothing is sent twice while it is on its way; nothing is said to be done before the pipeline has said it; what is not known
// is said to be not known.
import { signal } from '@preact/signals';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { ApiError } from '../api.ts';
import { get, mayAct, session } from '../app.ts';
import { sentence, type Tone } from '../parts.tsx';

// ---- who acts ----

const NAME_KEY = 'logpipe-name';

/** Some browsers keep nothing, and say so by throwing. */
function keptName(): string {
  try {
    return localStorage.getItem(NAME_KEY) ?? '';
  } catch {
    return '';
  }
}

const name = signal(keptName());

/** For the body of a command; without a name, that of the token is shown alone. */
export function byWhom(): { readonly by?: string } {
  const by = name.peek().trim();
  return by === '' ? {} : { by };
}

export function NameField() {
  const id = useId();
  if (!mayAct.value) return null;
  const keep = (text: string) => {
    name.value = text;
    try {
      localStorage.setItem(NAME_KEY, text);
    } catch {
      // It is kept until the page is closed.
    }
  };
  return (
    <div class="name-field">
      <label for={id}>Your name</label>
      <input
        id={id}
        type="text"
        maxLength={100}
        autoComplete="nickname"
        placeholder="for the record"
        value={name.value}
        onInput={(event) => keep(event.currentTarget.value)}
      />
    </div>
  );
}

/** In place of buttons, for whoever may only read. */
export function NeedsToken({ what }: { what: string }) {
  if (mayAct.value) return null;
  const ask = () => {
    session.want(true);
    scrollTo(0, 0);
  };
  return (
    <div class="notice needs-token">
      <p>To {what}, the page needs a token that may act.</p>
      <button type="button" onClick={ask}>
        Enter a token
      </button>
    </div>
  );
}

// ---- commands ----

export interface CommandAnswer {
  readonly commandId?: string;
  readonly done: boolean;
  readonly changed?: boolean;
  readonly refused?: string;
}

interface Outcome {
  readonly tone: Tone;
  readonly text: string;
}

interface Words {
  /** "Acknowledged" */
  readonly done: string;
  /** "It was acknowledged already" */
  readonly already: string;
}

export interface Acting {
  readonly isBusy: boolean;
  readonly outcome: Outcome | null;
  /** True: it is done, or was so already. Ignored while another is on its way. */
  give(send: () => Promise<CommandAnswer>, words: Words): Promise<boolean>;
}

const ASK_EVERY_MS = 1_000;
/** After that the reader is told that it will be done later. */
const ASK_FOR_MS = 30_000;

/** @param key of what is acted on: the outcome of another one is not shown */
export function useActing(key: string): Acting {
  const [state, setState] = useState<{ readonly isBusy: boolean; readonly outcome: Outcome | null }>({
    isBusy: false,
    outcome: null,
  });
  const busy = useRef<AbortController>(undefined);
  useEffect(() => {
    setState({ isBusy: false, outcome: null });
    return () => {
      busy.current?.abort();
      busy.current = undefined;
    };
  }, [key]);

  return {
    ...state,
    async give(send, words) {
      if (busy.current !== undefined) return false;
      const own = new AbortController();
      busy.current = own;
      setState({ isBusy: true, outcome: null });
      const say = (isBusy: boolean, tone: Tone, text: string) => {
        if (!own.signal.aborted) setState({ isBusy, outcome: { tone, text } });
      };
      try {
        let answer = await send();
        if (!answer.done) {
          say(true, 'info', 'Taken. Waiting for it to be carried out …');
          answer = await followed(answer, own.signal);
        }
        const { done, changed, refused } = answer;
        if (!done)
          say(false, 'info', 'Taken. It is carried out as soon as an instance that decides runs, within a day.');
        else if (refused !== undefined) say(false, 'bad', `Refused: ${refused}`);
        else say(false, 'good', changed === false ? words.already : words.done);
        return done && refused === undefined;
      } catch (error) {
        say(false, 'bad', failedText(error));
        return false;
      } finally {
        if (busy.current === own) busy.current = undefined;
      }
    },
  };
}

async function followed(first: CommandAnswer, signal: AbortSignal): Promise<CommandAnswer> {
  const id = first.commandId ?? '';
  const endMs = performance.now() + ASK_FOR_MS;
  let answer = first;
  while (!answer.done && !signal.aborted && performance.now() < endMs) {
    await new Promise((resolve) => setTimeout(resolve, ASK_EVERY_MS));
    // That one question is not answered says nothing about the command.
    answer = await get<CommandAnswer>(`commands/${encodeURIComponent(id)}`, {}, signal).catch(() => answer);
  }
  return answer;
}

function failedText(error: unknown): string {
  if (!(error instanceof ApiError))
    return 'The page could not make sense of the answer: see how things stand before you try again';
  if (error.status === 0)
    return `${error.message}: whether it was taken is not known; see how things stand before you try again`;
  return error.message;
}

export function OutcomeLine({ outcome }: { outcome: Outcome | null }) {
  return (
    <p class={`outcome ${outcome?.tone ?? ''}`} role="status">
      {outcome === null ? '' : sentence(outcome.text)}
    </p>
  );
}
