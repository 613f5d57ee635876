// What an application reads on its standard error about records that do not get through, unless it listens to the transport's
// events. In: outages that begin and end, and what is left when the process ends. Out: one line when an outage begins, one when it
// is over, one when the process ends with records that Kafka does not have. Guarantee: however many transports share a cluster and
// a topic, an outage has one line; no line holds a secret; nothing throws, whatever has become of standard error; the exit
// status is the application's.
import { writeSync } from 'node:fs';
import { visible } from '../core/safe-json.ts';

/** Where a transport sends; equal texts are one outage. */
export interface Destination {
  readonly brokers: readonly string[];
  readonly topic: string;
}

/** What a transport has at the end that Kafka does not. */
export interface Left {
  readonly destination: Destination;
  /** In the queue, or sent without an answer. */
  readonly waiting: number;
  readonly dropped: number;
  /** In the files of a spool, for the next process to send. */
  readonly spooled?: { readonly records: number; readonly dir: string } | undefined;
  /** Known when there is trouble. */
  readonly reason?: string | undefined;
}

/** The spool that keeps what waits. */
export interface KeptIn {
  readonly dir: string;
  readonly maxBytes: number;
}

/** A transport that may have records which Kafka does not have. */
export interface Holder {
  /**
   * What it has lost since it was last asked, without what a listener was told. Asked when it is closed or has nothing to deliver,
   * which changes nothing, and when the process ends: there is time for saving what can be saved, and for one line.
   */
  left(atExit: boolean): Left;
}

export interface OutageReport {
  /** One line of its own, for what nobody listens to. */
  say(line: string): void;
  /** @param reason in words, masked; @param kept how many records wait at most, or where */
  began(of: Holder, to: Destination, reason: string, kept: number | KeptIn): void;
  /** Of a transport that began one before; does nothing for another. @param lastedMs by the monotonic clock */
  ended(of: Holder, lastedMs: number, counts: { readonly waiting: number; readonly dropped: number }): void;
  /** From now on the holder is asked when the process ends. */
  watch(holder: Holder): void;
  /**
   * The holder is closed, or has nothing to deliver. Its outage ends without a line; what it has left now is what it will have at
   * the end, unless it is not `final`: then it is asked at the end.
   */
  release(holder: Holder, final?: boolean): void;
}

interface Outage {
  readonly name: string;
  readonly open: Set<Holder>;
  waiting: number;
  dropped: number;
}

export function createOutageReport(
  deps: {
    readonly write?: (line: string) => void;
    /** Node's process, as far as it is needed. */
    readonly process?: Pick<NodeJS.Process, 'on' | 'removeListener'>;
  } = {},
): OutageReport {
  const { write = onStandardError, process: of = process } = deps;
  const outages = new Map<string, Outage>();
  const holders = new Set<Holder>();
  /** Of those that are closed. */
  const leftovers: Left[] = [];
  let listens = false;

  function say(line: string): void {
    try {
      write(`logpipe: ${visible(line)}`);
    } catch {
      // Nobody reads it; the application goes on.
    }
  }

  function listen(): void {
    const needed = holders.size > 0 || leftovers.length > 0;
    if (needed === listens) return;
    listens = needed;
    if (needed) of.on('exit', atExit);
    else of.removeListener('exit', atExit);
  }

  function atExit(): void {
    try {
      const line = lastLine([...leftovers, ...[...holders].map((holder) => holder.left(true))]);
      if (line !== undefined) say(line);
    } catch {
      // The last thing a process does must not fail because of a log.
    }
  }

  return {
    say,
    began(holder, to, reason, kept) {
      const name = nameOf(to);
      const outage = outages.get(name) ?? { name, open: new Set(), waiting: 0, dropped: 0 };
      outages.set(name, outage);
      outage.open.add(holder);
      if (outage.open.size > 1) return;
      say(
        `log records do not reach Kafka (${name}): ${reason}. ` +
          `${keptWhere(kept)} ` +
          `Check the option brokers, and that Kafka runs and can be reached from this machine.`,
      );
    },
    ended(holder, lastedMs, { waiting, dropped }) {
      const outage = [...outages.values()].find(({ open }) => open.has(holder));
      if (outage === undefined) return;
      outage.open.delete(holder);
      outage.waiting += waiting;
      outage.dropped += dropped;
      if (outage.open.size > 0) return;
      outages.delete(outage.name);
      const lost = outage.dropped === 0 ? 'nothing was lost' : `${outage.dropped} were dropped`;
      say(
        `log records reach Kafka again (${outage.name}), ${Math.max(1, Math.round(lastedMs / 1_000))} s after that was said; ` +
          `${outage.waiting} that waited are being sent, ${lost}.`,
      );
    },
    watch(holder) {
      holders.add(holder);
      listen();
    },
    release(holder, final = true) {
      if (final && holders.delete(holder)) {
        const left = holder.left(false);
        if (left.waiting + left.dropped + (left.spooled?.records ?? 0) > 0) leftovers.push(left);
      }
      for (const outage of outages.values()) {
        if (outage.open.delete(holder) && outage.open.size === 0) outages.delete(outage.name);
      }
      listen();
    },
  };
}

function keptWhere(kept: number | KeptIn): string {
  if (typeof kept === 'number') {
    return `Up to ${kept.toLocaleString('en')} are kept and sent as soon as it is reached, later ones are dropped.`;
  }
  const most = Math.round(kept.maxBytes / (1024 * 1024)).toLocaleString('en');
  return `They are kept in ${kept.dir} (up to ${most} MiB, beyond that the oldest are dropped) and sent as soon as it is reached.`;
}

function lastLine(all: readonly Left[]): string | undefined {
  const lost = all.filter(({ waiting, dropped }) => waiting + dropped > 0);
  const sum = (of: (left: Left) => number) => lost.reduce((total, left) => total + of(left), 0);
  const [waiting, dropped] = [sum((left) => left.waiting), sum((left) => left.dropped)];
  const kept = inFiles(all);
  if (waiting + dropped === 0) return kept;
  const places = placesOf(lost);
  const reason = lost.find((left) => left.reason !== undefined)?.reason;
  const parts = dropped === 0 ? '' : ` (${waiting} waited, ${dropped} had been dropped)`;
  const why =
    reason ??
    (waiting > 0
      ? 'the process ended before they were sent; wait for close() of the transport, or for finish after logger.end()'
      : 'see the counts by reason in stats() of the transport');
  const total = waiting + dropped;
  const line = `${total} log record${total === 1 ? '' : 's'} did not reach Kafka by the end of this process${parts} (${places}): ${why}.`;
  return kept === undefined ? line : `${line} ${kept}`;
}

/** What is not lost. */
function inFiles(all: readonly Left[]): string | undefined {
  const kept = all.filter(({ spooled }) => spooled !== undefined && spooled.records > 0);
  const total = kept.reduce((sum, { spooled }) => sum + spooled!.records, 0);
  if (total === 0) return undefined;
  const dirs = [...new Set(kept.map(({ spooled }) => spooled!.dir))];
  return (
    `${total} log record${total === 1 ? ' is' : 's are'} kept in ${dirs.join(', ')} (${placesOf(kept)}): the next process that logs ` +
    `there sends ${total === 1 ? 'it' : 'them'}, or logpipe ship --spool ${dirs[0]}.`
  );
}

function placesOf(all: readonly Left[]): string {
  return [...new Set(all.map(({ destination }) => nameOf(destination)))].join('; ');
}

/** An address may come with a name and a password in front, which is a mistake that must not be repeated aloud. */
function nameOf({ brokers, topic }: Destination): string {
  const addresses = brokers.map((broker) => broker.slice(broker.lastIndexOf('@') + 1));
  const shown = addresses.length > MAX_BROKERS ? [...addresses.slice(0, MAX_BROKERS), '…'] : addresses;
  return `${shown.join(', ')}, topic ${topic}`;
}

const MAX_BROKERS = 5;

/** Written at once and past Node's streams: the process may be ending, and a stream would tell of an error by an event. */
function onStandardError(line: string): void {
  writeSync(2, `${line}\n`);
}
