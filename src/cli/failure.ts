// How a command ends that failed. In: whatever was thrown. Out: an error of the closed list, its text for standard error and the
// exit status. Guarantee: no stack trace, unless LOGPIPE_DEBUG asks for it; no secret that the masker knows; nothing in it works on
// the terminal.
import type { Config } from '../config.ts';
import { causeChain, errorText, LogpipeError, reasonInWords, systemReason } from '../core/errors.ts';
import { visibleLines } from '../core/safe-json.ts';
import type { Masker } from '../core/secrets/mask.ts';
import { explainFailure } from '../indexing/elasticsearch.ts';
import { maskedText } from '../replay/record-document.ts';
import { failedReading } from '../source/kafka/client.ts';

/** What is known of the command when it fails. */
export interface FailureContext {
  /** Undefined before it was read. */
  readonly config: Pick<Config, 'kafka' | 'elasticsearch'> | undefined;
  readonly masker: Masker;
  /** LOGPIPE_DEBUG is set: the stack follows. */
  readonly debug: boolean;
}

const WRONG_USE = ['LOGPIPE_CONFIG_INVALID', 'LOGPIPE_CONFIG_UNREADABLE', 'LOGPIPE_USAGE'];

/** Lines for standard error and the exit status: 2 for a wrong command line or configuration, else 1. */
export async function describeFailure(
  thrown: unknown,
  context: FailureContext,
): Promise<{ readonly text: string; readonly status: 1 | 2 }> {
  const error = thrown instanceof LogpipeError ? thrown : await known(thrown, context);
  // The loader's own messages hold no secret, and name keys that announce one.
  const message = error.code === 'LOGPIPE_CONFIG_INVALID' ? error.message : maskedText(error.message, context.masker);
  const stack = context.debug && thrown instanceof Error ? `\n${maskedText(stackOf(thrown), context.masker)}` : '';
  return {
    text: visibleLines(`logpipe: ${message} [${error.code}]${stack}`),
    status: WRONG_USE.includes(error.code) ? 2 : 1,
  };
}

/** An error that nobody has put into words on its way. */
async function known(thrown: unknown, { config }: FailureContext): Promise<LogpipeError> {
  const chain = [...causeChain(thrown)];
  if (config !== undefined && chain.some(({ name }) => name.startsWith('KafkaJS'))) {
    return failedReading(thrown, config.kafka, config.kafka.topics.logs);
  }
  // The official client's errors have their answer, or the lack of one, in `meta`.
  if (config !== undefined && chain.some((error) => 'meta' in error)) {
    return explainFailure(thrown, config.elasticsearch);
  }
  const system = chain.find((error) => systemReason(error) !== undefined) as NodeJS.ErrnoException | undefined;
  if (system !== undefined) {
    const { path, address, port } = system as NodeJS.ErrnoException & { address?: string; port?: number };
    const place = path ?? (address === undefined ? undefined : `${address}:${port ?? '?'}`);
    return new LogpipeError(
      'LOGPIPE_FOLDER_UNUSABLE',
      `${place ?? 'the system refused something'}: ${reasonInWords(system)} (${system.syscall ?? 'unknown call'})`,
      thrown,
    );
  }
  return new LogpipeError(
    'LOGPIPE_FAULT',
    `${errorText(thrown)}${placeOf(thrown)}; this is probably a fault of logpipe: set LOGPIPE_DEBUG=1 to see where, and report it`,
    thrown,
  );
}

const MAX_PLACE = 200;

/** Where in logpipe it happened, in one word. */
function placeOf(thrown: unknown): string {
  const stack = thrown instanceof Error ? (thrown.stack ?? '') : '';
  const [file = '', line = ''] = (stack.split('/src/', 2)[1] ?? '').slice(0, MAX_PLACE).split(':', 2);
  return /^[\w./-]+$/.test(file) && /^\d+$/.test(line) ? `, at src/${file}:${line}` : '';
}

function stackOf(error: Error): string {
  return [...causeChain(error)].map(({ stack, message }) => stack ?? message).join('\ncaused by ');
}
