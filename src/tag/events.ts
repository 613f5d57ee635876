// The application's event contract as JSON schemas, generated from the catalogue and compiled once.
// In: a parsed document whose `event` is declared; out: whether it carries what its contract asks for.
import { Ajv, type ValidateFunction } from 'ajv';
import { CALL_STATUSES, EVENTS, FIELDS, type FieldGroup, type FieldType } from '../core/catalogue.ts';

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
