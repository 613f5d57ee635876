// Parsed event -> tagged event: the error tag, the error's template and fingerprint, the event contract.

import { isErrorLevel } from '../parse/level.ts';
import type { ParsedEvent } from '../parse/parse.ts';
import { createEventCheck } from './events.ts';
import { createErrorGrouping, type ErrorGrouping } from './template.ts';

export interface TaggedEvent extends ParsedEvent {
  /** Only of events tagged `error`: what groups them. */
  readonly grouping: ErrorGrouping | undefined;
}

/** Tags one event. Pure apart from bounded caches. */
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
    // The log message says what failed for the caller; the error's own text is the better name where there is none.
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
