// What happened to an application under PM2: the contract between watching and telling. Data only.

export const PM2_KINDS = ['start', 'restart', 'reload', 'stop', 'error', 'overlimit', 'daemonLost'] as const;
/**
 * `error`: a process ended by itself, or reported an exception. `overlimit`: PM2 has given up restarting. `daemonLost`: PM2
 * itself is gone.
 */
export type Pm2Kind = (typeof PM2_KINDS)[number];

export interface Happening {
  /** Name of the application; of PM2 itself `PM2`. */
  readonly app: string;
  readonly kind: Pm2Kind;
  readonly atMs: number;
  /** Numbers of the processes it happened to; empty when it is PM2 itself. */
  readonly processes: readonly string[];
  /** One sentence for people. */
  readonly message: string;
  /** The state that `overlimit` and `daemonLost` began has ended. */
  readonly ended?: true;
  /** What is known of it, for the message's metadata. */
  readonly facts: Readonly<Record<string, string | number>>;
}

/** Of PM2 itself. */
export const DAEMON = 'PM2';
