// Sends the alert history to Elasticsearch; and its index template. In: `history` entries of the outbox. Out: documents in the monthly
// index, and a result for each entry. Guarantee: an entry is given up only when Elasticsearch refuses the document itself; sending twice
// leaves one document (`create` with an id of its own), so no term is needed; no message waits for it, because its queue is separate.

import type { Client } from '@elastic/elasticsearch';
import { backoffMs, type Clock, unlessAborted } from '../core/clock.ts';
import { errorText, LogpipeError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { HISTORY_PREFIX, type HistoryEntry, type OutboxResult } from '../incidents/records.ts';
import type { BulkReply, SendBulk } from '../indexing/elasticsearch.ts';
import { type IndexTemplate, installIndexTemplate, type TemplateResult } from '../indexing/index-template.ts';
import { classifyItem, classifyStatus, errorWords } from '../indexing/outcome.ts';

const BATCH = 100;
const BACKOFF = { firstMs: 1_000, maxMs: 60_000 };

interface HistoryDeps {
  readonly send: SendBulk;
  /** Installs the index template; called before the first document, and again until it succeeds. */
  readonly prepare: () => Promise<unknown>;
  /** Called after each batch; nothing is sent until it has resolved. A rejection: called again later. */
  readonly onResults: (results: readonly OutboxResult[]) => Promise<void> | void;
  readonly clock: Clock;
  readonly log: Log;
}

export interface HistorySender {
  /** Takes entries in the order of the outbox; ignores those it already has. */
  add(entries: readonly HistoryEntry[]): void;
  /** These entries left the outbox unsent: they need not be sent any more. */
  forget(ids: Iterable<string>): void;
  pending(): number;
  /** Ends at once; unsettled entries stay in the outbox. */
  close(): Promise<void>;
}

export function createHistorySender(deps: HistoryDeps): HistorySender {
  const { clock, log } = deps;
  const queue = new Map<string, HistoryEntry>();
  const end = new AbortController();
  let running: Promise<void> | undefined;
  let prepared = false;
  let failures = 0;
  let batch = BATCH;
  let cancelWait = () => {};

  function begin(): void {
    if (running !== undefined || end.signal.aborted || queue.size === 0) return;
    running = sendAll().finally(() => {
      running = undefined;
      begin();
    });
  }

  async function sendAll(): Promise<void> {
    while (queue.size > 0 && !end.signal.aborted) {
      const failure = await sendSome();
      if (failure === undefined) {
        if (failures > 0) log.info('The alert history is written again', { waiting: queue.size });
        failures = 0;
        continue;
      }
      if (end.signal.aborted) return;
      failures += 1;
      if (failures === 1) log.warn('The alert history waits', { reason: failure, waiting: queue.size });
      await wait(backoffMs(failures, BACKOFF));
    }
  }

  /** Sends one bulk; returns undefined when that worked, else the reason. */
  async function sendSome(): Promise<string | undefined> {
    const entries = [...queue.values()].slice(0, batch);
    try {
      await prepare();
      const reply = await deps.send(bodyOf(entries), end.signal);
      const { results, failure } = resultsOf(entries, reply);
      // Too much for one request; a single document cannot be halved.
      if (reply.status === 413 && entries.length > 1) batch = Math.max(1, Math.floor(entries.length / 2));
      if (results.length > 0) {
        await unlessAborted(Promise.resolve(deps.onResults(results)), end.signal);
        for (const { id } of results) queue.delete(id);
      }
      return failure;
    } catch (error) {
      return errorText(error).slice(0, 300);
    }
  }

  async function prepare(): Promise<void> {
    if (prepared) return;
    try {
      await deps.prepare();
    } catch (error) {
      if (!(error instanceof LogpipeError) || error.code !== 'LOGPIPE_TEMPLATE_NEWER') throw error;
      log.warn(error.message);
    }
    prepared = true;
  }

  function resultsOf(
    entries: readonly HistoryEntry[],
    reply: BulkReply,
  ): { results: OutboxResult[]; failure?: string } {
    if (reply.status === 413 && entries.length === 1) {
      const [only] = entries as [HistoryEntry];
      return { results: [{ id: only.id, result: { ok: false, retryable: false, reason: 'HTTP 413' } }] };
    }
    if (reply.status >= 300)
      return { results: [], failure: `${classifyStatus(reply.status).reason} ${reply.detail}`.trim() };
    if (reply.items.length !== entries.length) return { results: [], failure: 'count_mismatch' };
    const results: OutboxResult[] = [];
    let failure: string | undefined;
    reply.items.forEach((item, i) => {
      const { id } = entries[i] as HistoryEntry;
      const { outcome, reason } = classifyItem(item);
      switch (outcome) {
        case 'indexed':
        case 'duplicate':
          results.push({ id, result: { ok: true } });
          break;
        case 'rejected': {
          const words = errorWords(item.error).slice(0, 300);
          log.error('Failed to send history alert', { error: words, givenUp: true });
          results.push({ id, result: { ok: false, retryable: false, reason: words } });
          break;
        }
        case 'retry':
          failure ??= reason;
          break;
      }
    });
    return { results, ...(failure === undefined ? {} : { failure }) };
  }

  function wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = clock.after(ms, resolve);
      cancelWait = () => {
        cancel();
        resolve();
      };
    });
  }

  return {
    add(entries) {
      if (end.signal.aborted) return;
      for (const entry of entries) if (!queue.has(entry.id)) queue.set(entry.id, entry);
      begin();
    },
    forget(ids) {
      for (const id of ids) queue.delete(id);
    },
    pending: () => queue.size,
    async close() {
      end.abort();
      cancelWait();
      queue.clear();
      await running;
    },
  };
}

function bodyOf(entries: readonly HistoryEntry[]): Buffer {
  const lines = entries.flatMap(({ document: { index, id, source } }) => [
    JSON.stringify({ create: { _index: index, _id: id } }),
    JSON.stringify(source),
  ]);
  return Buffer.from(`${lines.join('\n')}\n`);
}

// ---- the index template, one index per month ----
// It matches no log index. It maps every field the history has, and no other.

export const ALERTS_TEMPLATE_NAME = 'logpipe-alerts';
/** Raise it with every change of the template: a server keeps the highest it has seen. */
const ALERTS_TEMPLATE_VERSION = 2;
/** Different from that of every other template of logpipe: two of equal priority must not match the same index. */
const PRIORITY = 210;

const keyword = { type: 'keyword', ignore_above: 1024 } as const;
const text = { type: 'text' } as const;
const date = { type: 'date' } as const;
const long = { type: 'long' } as const;
const double = { type: 'double' } as const;
const flattened = { type: 'flattened', ignore_above: 1024 } as const;

/** The template as shipped in config/elasticsearch/. */
export function alertsTemplate(): IndexTemplate {
  return {
    index_patterns: [`${HISTORY_PREFIX}*`],
    priority: PRIORITY,
    version: ALERTS_TEMPLATE_VERSION,
    _meta: { managed_by: 'logpipe', description: 'Transitions of alerts and incidents, one index per month (UTC)' },
    template: {
      settings: {
        index: {
          number_of_shards: 1,
          auto_expand_replicas: '0-1',
          refresh_interval: '5s',
          mapping: { total_fields: { limit: 1000 } },
        },
      },
      mappings: {
        dynamic: false,
        properties: {
          '@timestamp': date,
          transition: keyword,
          environment: keyword,
          group: keyword,
          priority: keyword,
          severity: keyword,
          team: keyword,
          by: keyword,
          via: keyword,
          silence: { properties: { id: keyword, matches: keyword, from: date, until: date, reason: text } },
          alert: {
            properties: {
              key: keyword,
              rule: keyword,
              title: keyword,
              labels: flattened,
              started: date,
              message: text,
              metadata: flattened,
              resolution: keyword,
              why: {
                properties: {
                  measure: keyword,
                  windowMs: long,
                  fromMs: date,
                  toMs: date,
                  value: double,
                  valueText: keyword,
                  threshold: double,
                  thresholdText: keyword,
                  volume: long,
                  topTemplates: { properties: { template: keyword, count: long } },
                  examples: keyword,
                  release: keyword,
                },
              },
            },
          },
          incident: { properties: { id: keyword, dedupKey: keyword, opened: date } },
          notification: {
            properties: {
              channel: keyword,
              action: keyword,
              reason: keyword,
              delivered: { type: 'boolean' },
              failure: text,
            },
          },
        },
      },
    },
  };
}

/** @throws LogpipeError LOGPIPE_TEMPLATE_NEWER when the server's is newer; otherwise the client's errors */
export function installAlertsTemplate(client: Client, log: Log): Promise<TemplateResult> {
  return installIndexTemplate(client, ALERTS_TEMPLATE_NAME, alertsTemplate(), log);
}
