// What became of a bulk item or a whole bulk request: pure functions over status and error. `rejected` is a closed list of faults
// of the *document*, and a whole request is taken apart only when Elasticsearch itself blames its body; every other failure is
// retried, because to drop or dead-letter a document for a fault of the cluster, the permissions or the path would lose it.

import { LogpipeError } from '../core/errors.ts';
import type { ItemOutcome } from '../core/record.ts';

export interface BulkItemError {
  readonly type?: string;
  readonly reason?: string;
  readonly caused_by?: BulkItemError;
}

export interface BulkItem {
  readonly status: number;
  readonly error?: BulkItemError;
}

/** Error types that name the document itself as the cause. */
const DOCUMENT_ERRORS = new Set([
  'document_parsing_exception',
  'mapper_parsing_exception',
  'strict_dynamic_mapping_exception',
  'mapper_exception',
  'x_content_parse_exception',
  'json_parse_exception',
  'invalid_type_name_exception',
]);

/** `illegal_argument_exception` is used for documents and cluster limits alike; these reasons mean the document. */
const DOCUMENT_REASONS = [
  /immense term/i,
  /cannot be changed from type/i,
  /Limit of (?:total fields|mapping depth|nested|field name length)/i,
  /limit of \[?\d+\]? has been exceeded/i,
  /object field starting or ending with a \[\.\]/i,
  /field name cannot (?:be|contain)/i,
  /can't merge a non[- ]object mapping/i,
  /can't (?:get text on|merge)/i,
  /Failed to parse/i,
  /is too long, must be no longer than 512/i,
  /\bfailed to parse\b/i,
  /mapper \[.*\] (?:cannot|conflicts)/i,
  /document contains/i,
];

interface Verdict {
  readonly outcome: ItemOutcome;
  /** Closed list, for metrics: why it is retried or refused; empty for what was accepted. */
  readonly reason: FailureReason | '';
  /** True when somebody has to act: it will not recover by itself soon. */
  readonly alarm: boolean;
}

export const FAILURE_REASONS = [
  'unreachable',
  'timeout',
  'overloaded',
  'server_error',
  'unauthorized',
  'forbidden',
  'read_only',
  'index_closed',
  'index_missing',
  'shard_limit',
  'count_mismatch',
  'unknown_refusal',
  'not_elasticsearch',
  'document',
  'request_too_large',
  'refused_in_a_row',
  'too_many_rejections',
] as const;
export type FailureReason = (typeof FAILURE_REASONS)[number];

const INDEXED: Verdict = { outcome: 'indexed', reason: '', alarm: false };
const DUPLICATE: Verdict = { outcome: 'duplicate', reason: '', alarm: false };
const REJECTED: Verdict = { outcome: 'rejected', reason: 'document', alarm: false };
const retry = (reason: FailureReason, alarm: boolean): Verdict => ({ outcome: 'retry', reason, alarm });

/** Classifies one item of a bulk reply. */
export function classifyItem(item: BulkItem): Verdict {
  const { status, error } = item;
  if (status === 201 || status === 200) return INDEXED;
  if (status === 409) return DUPLICATE;
  const type = error?.type ?? '';
  if (type === 'cluster_block_exception') return retry('read_only', true);
  if (type === 'index_closed_exception') return retry('index_closed', true);
  if (type === 'validation_exception') return retry('shard_limit', true);
  if (status === 400) return isDocumentFault(error) ? REJECTED : retry('unknown_refusal', true);
  return classifyStatus(status);
}

/** A request that was refused as a whole. */
interface RequestRefusal {
  readonly status: number;
  /** Elasticsearch's own error; absent when something else answered, or when the answer is plain text. */
  readonly error?: BulkItemError;
  /** True when the answer is not Elasticsearch's: a gateway's page, a redirect. */
  readonly foreign?: boolean;
}

/** Error types of a bulk body that Elasticsearch cannot read. */
const BODY_ERRORS = new Set([
  'x_content_parse_exception',
  'x_content_e_o_f_exception',
  'json_parse_exception',
  'json_e_o_f_exception',
  'parse_exception',
  'parsing_exception',
  'not_x_content_exception',
  'action_request_validation_exception',
]);
/** `illegal_argument_exception` is used for unknown parameters and settings too; these reasons mean a line of the body. */
const BODY_REASONS = /^(?:Malformed (?:action|content)|Action\/metadata line)/i;
/** The body did not arrive, so no document in it can be to blame. */
const BODY_LOST = /request body|no requests added/i;
/** Every body we send ends with a newline, so this one was cut on its way, as by a size limit. */
const BODY_CUT = /must be terminated by a newline/i;

/**
 * What a whole-request refusal is about: `body`, a document that Elasticsearch cannot read; `size`, smaller requests may get
 * through; `path`, anything else, which is no document's fault.
 */
export function refusalOf({ status, error, foreign = false }: RequestRefusal): 'body' | 'size' | 'path' {
  if (status === 413) return 'size';
  if (status !== 400 || foreign || error === undefined) return 'path';
  const { type = '', reason = '' } = error;
  if (type === 'illegal_argument_exception') {
    if (BODY_CUT.test(reason)) return 'size';
    return BODY_REASONS.test(reason) ? 'body' : 'path';
  }
  return BODY_ERRORS.has(type) && !BODY_LOST.test(reason) ? 'body' : 'path';
}

/** Classifies the status of a whole request that was not answered item by item. 400 and 413: see `refusalOf`. */
export function classifyStatus(status: number, foreign = false): Verdict {
  if (status === 429) return retry('overloaded', false);
  if (status === 401) return retry('unauthorized', true);
  if (status === 403) return retry('forbidden', true);
  if (status === 408 || status === 504) return retry('timeout', false);
  if (status >= 500) return retry('server_error', false);
  if (foreign) return retry('not_elasticsearch', true);
  if (status === 404) return retry('index_missing', true);
  return retry('unknown_refusal', true);
}

function isDocumentFault(error: BulkItemError | undefined): boolean {
  for (let cause = error; cause !== undefined; cause = cause.caused_by) {
    if (DOCUMENT_ERRORS.has(cause.type ?? '')) return true;
    if (cause.type === 'illegal_argument_exception' && DOCUMENT_REASONS.some((r) => r.test(cause.reason ?? ''))) {
      // A shard-level limit mentions documents too: "number of documents in the index cannot exceed".
      return !/number of documents in the index/i.test(cause.reason ?? '');
    }
  }
  return false;
}

/** The server's words, for a dead letter or a log line. */
export function errorWords(error: BulkItemError | undefined): string {
  const words: string[] = [];
  for (let cause = error; cause !== undefined && words.length < 4; cause = cause.caused_by) {
    words.push(`${cause.type ?? 'error'}: ${cause.reason ?? ''}`);
  }
  return words.join(' < ') || 'no reason given';
}

/**
 * What refusals for one reason have in common: the types, and the words before the first value (field names, ids and values come
 * in brackets or quotes). It contains nothing of a document, so it may be logged.
 */
export function refusalKind(error: BulkItemError | undefined): string {
  const kinds: string[] = [];
  for (let cause = error; cause !== undefined && kinds.length < 4; cause = cause.caused_by) {
    // `[1:6]` is where in the document it was found.
    const words = (cause.reason ?? '').slice(0, 200).replace(/^(?:\[-?\d+:-?\d+\]\s*)+/, '');
    kinds.push(`${cause.type ?? 'error'}: ${words.slice(0, Math.max(0, words.search(/[[\]'"=\d\n]|$/))).trim()}`);
  }
  return kinds.join(' < ') || 'no reason given';
}

// ---- is an answer complete? ----

// No answer is used in which a shard, a cluster or the rest after a time-out is missing, nor one with fewer documents than
// announced. In all these cases the status is 200.

/** For `filter_path`: the fields that `whole` checks. */
export const WHOLENESS = '_shards.total,_shards.successful,_shards.failed,_clusters,timed_out,terminated_early';
/** Makes the server itself refuse a search that misses a shard, as far as it notices. */
export const NO_PARTIAL = { allow_partial_search_results: false } as const;

interface Answer {
  readonly _shards?: { readonly total?: number; readonly successful?: number; readonly failed?: number };
  readonly _clusters?: { readonly total?: number; readonly successful?: number };
  readonly timed_out?: boolean;
  readonly terminated_early?: boolean | null;
}

/**
 * @param what was asked, in words: `the search in calling-platform-*`
 * @throws LogpipeError LOGPIPE_ES_INCOMPLETE
 */
export function whole<T extends object>(answer: T, what: string): T {
  const problem = partOf(answer as Answer);
  if (problem === undefined) return answer;
  throw new LogpipeError(
    'LOGPIPE_ES_INCOMPLETE',
    `Elasticsearch answered ${what} in part only: ${problem}; the answer is not used. Repeat this when the cluster is green or yellow`,
  );
}

function partOf({ _shards: shards, _clusters: clusters, timed_out: late, terminated_early: cut }: Answer) {
  if (late === true) return 'it timed out';
  if (cut === true) return 'it was ended early';
  const { total = 0, successful = total, failed = 0 } = shards ?? {};
  if (failed > 0) return `${failed} of ${total} shards failed`;
  if (successful < total) return `${total - successful} of ${total} shards are missing`;
  const { total: all = 0, successful: answered = all } = clusters ?? {};
  return answered < all ? `${all - answered} of ${all} clusters are missing` : undefined;
}

/**
 * A refresh is judged by failed shards alone: copies that are not assigned take no part in it and miss nothing.
 * @throws LogpipeError LOGPIPE_ES_INCOMPLETE
 */
export function refreshed<T extends object>(answer: T, what: string): T {
  const { total = 0, failed = 0 } = (answer as Answer)._shards ?? {};
  whole({ _shards: { total, failed } }, what);
  return answer;
}

/** @throws LogpipeError LOGPIPE_ES_INCOMPLETE when fewer documents were read than announced */
export function complete(read: number, announced: number, what: string): void {
  if (read >= announced) return;
  throw new LogpipeError(
    'LOGPIPE_ES_INCOMPLETE',
    `${what}: ${read} of ${announced} documents came; the result would be incomplete. Repeat this when the cluster is green or yellow`,
  );
}

/** The number in `hits.total`, in either of the forms that servers use. */
export function totalOf(hits: { readonly total?: unknown } | undefined): number {
  const total = hits?.total;
  if (typeof total === 'number') return total;
  const { value } = (total ?? {}) as { value?: unknown };
  return typeof value === 'number' ? value : 0;
}
