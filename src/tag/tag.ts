// Parsed event -> tagged event: the error tag, the error's template and fingerprint, the event contract.

import { Ajv, type ValidateFunction } from 'ajv';
import { CALL_STATUSES, EVENTS, FIELDS, type FieldGroup, type FieldType } from '../core/catalogue.ts';
import type { ParsedEvent } from '../parse/parse.ts';
import { isErrorLevel } from '../parse/scalars.ts';
import { createErrorGrouping, type ErrorGrouping } from './error-template.ts';

export interface TaggedEvent extends ParsedEvent {
  /** What groups events tagged `error`; undefined for others. */
  readonly grouping: ErrorGrouping | undefined;
}

/** The returned function tags one event. Pure apart from bounded caches. */
export function createTagger(): (event: ParsedEvent) => TaggedEvent {
  const keepsContract = createEventCheck();
  const groupError = createErrorGrouping();

  return (event) => {
    const { doc } = event;
    const isError = isErrorLevel(doc.level);
    const invalid = doc.event !== undefined && !keepsContract(doc);
    const tags = isError || invalid ? addTags(event.tags, isError, invalid) : event.tags;
    return {
      doc,
      verbatim: event.verbatim,
      timeMs: event.timeMs,
      timeText: event.timeText,
      tags,
      grouping: isError ? grouping(doc) : undefined,
    };
  };

  function grouping(doc: Record<string, unknown>): ErrorGrouping {
    const error = typeof doc.error === 'object' && doc.error !== null ? (doc.error as Record<string, unknown>) : {};
    // The log message says what failed for the caller; the error's own text is used when there is no message.
    const text = firstText(doc.message, error.message, error.name) ?? 'unknown error';
    return groupError(text, String(error.name ?? ''), String(error.code ?? ''));
  }
}

function addTags(tags: readonly string[], isError: boolean, invalid: boolean): readonly string[] {
  const all = new Set(tags);
  if (isError) all.add('error');
  if (invalid) all.add('_event_invalid');
  return [...all];
}

function firstText(...candidates: unknown[]): string | undefined {
  return candidates.find((text): text is string => typeof text === 'string' && text.trim() !== '');
}

// ---- the application's event contract, as JSON schemas made from the catalogue ----

const JSON_TYPES: Partial<Record<FieldType, object>> = {
  keyword: { type: 'string', minLength: 1 },
  text: { type: 'string' },
  long: { type: 'number' },
  short: { type: 'integer' },
  float: { type: 'number' },
  boolean: { type: 'boolean' },
};

/** The JSON schema of one declared event; published in docs/fields.md. */
export function eventSchema(required: readonly string[]): object {
  const root: { type: string; required: string[]; properties: Record<string, unknown> } = {
    type: 'object',
    required: [],
    properties: {},
  };
  for (const path of required) {
    const [head, leaf] = path.split('.') as [string, string | undefined];
    const field = (FIELDS as FieldGroup)[head]!;
    if (!root.required.includes(head)) root.required.push(head);
    if (leaf === undefined) {
      root.properties[head] = JSON_TYPES[field as FieldType];
      continue;
    }
    root.properties[head] ??= { type: 'object', required: [], properties: {} };
    const group = root.properties[head] as typeof root;
    group.required.push(leaf);
    group.properties[leaf] =
      path === 'call.status' ? { enum: CALL_STATUSES } : JSON_TYPES[(field as FieldGroup)[leaf] as FieldType];
  }
  return root;
}

/** True when the document keeps its event's contract, or declares no known event. */
export function createEventCheck(): (doc: Record<string, unknown>) => boolean {
  const ajv = new Ajv({ strict: true, allErrors: false });
  const checks = new Map<unknown, ValidateFunction>(
    Object.entries(EVENTS).map(([name, event]) => [name, ajv.compile(eventSchema(event.required))] as const),
  );
  return (doc) => checks.get(doc.event)?.(doc) ?? true;
}
