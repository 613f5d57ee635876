// What may stand in a file that `logpipe rules test` runs: its schema, the same as types, and how its times are read.
import type { Schema } from '../core/config-loader.ts';
import { durationMs } from '../core/duration.ts';
import { type ChannelName, NOTIFY_REASONS, type NotifyReason } from '../notify/notification.ts';
import type { DriveReading } from './drive.ts';

/** After the schema's checks. */
export type Offset = string | 0;

export interface Times {
  readonly at?: Offset;
  readonly from?: Offset;
  readonly to?: Offset;
  readonly every?: Offset;
}

export interface WrittenMessage {
  readonly at: string;
  readonly title: string;
  readonly action: 'trigger' | 'resolve';
  readonly reason?: NotifyReason;
  readonly to?: readonly ChannelName[];
  readonly message?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
}

export interface WrittenTest {
  readonly name: string;
  readonly start: string;
  readonly for: Offset;
  readonly tick: Offset;
  readonly log: readonly (Times & {
    readonly late?: Offset;
    readonly event?: object;
    readonly with?: object;
    readonly line?: string;
  })[];
  readonly readings: readonly (Times & Omit<DriveReading, 'atMs'>)[];
  readonly stalls: readonly { readonly from: Offset; readonly to: Offset; readonly partition?: number }[];
  readonly expect: {
    readonly silent: readonly string[];
    readonly alerts: readonly {
      readonly rule: string;
      readonly labels: Readonly<Record<string, string>>;
      readonly fires: string;
      readonly resolves?: string;
      readonly muted: boolean;
    }[];
    readonly messages?: readonly WrittenMessage[];
  };
}

/** `90s`, or in parts: `1m30s`. */
export function offsetMs(text: Offset): number {
  const parts = String(text).match(/\d+(?:ms|[smhd])/g) ?? [];
  return parts.reduce((sum, part) => sum + durationMs(part), 0);
}

// `0` without a unit is a number in YAML.
const OFFSET = { anyOf: [{ type: 'string', pattern: '^(0|(\\d{1,9}(ms|s|m|h|d))+)$' }, { const: 0 }] } as const;
const RANGE = { type: 'string', pattern: '^(0|(\\d{1,9}(ms|s|m|h|d))+)(\\.\\.(\\d{1,9}(ms|s|m|h|d))+)?$' } as const;

/** The file: `tests`, each with what is logged and what is expected. Times are offsets from the test's `start`. */
export const RULE_TESTS_SCHEMA = {
  type: 'object',
  additionalProperties: false,
  required: ['tests'],
  properties: {
    /** Events that several tests refer to by YAML anchors. */
    events: { type: 'object', additionalProperties: { type: 'object' } },
    tests: {
      type: 'array',
      minItems: 1,
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['name', 'for', 'expect'],
        properties: {
          name: { type: 'string', minLength: 1 },
          start: {
            type: 'string',
            pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d(:\\d\\d)?Z$',
            default: '2026-01-05T10:00:00Z',
          },
          for: { ...OFFSET },
          /** Between two evaluations: a test of many hours need not look every second. */
          tick: { ...OFFSET, default: '1s' },
          log: {
            type: 'array',
            default: [],
            items: {
              type: 'object',
              additionalProperties: false,
              properties: {
                at: { ...OFFSET },
                from: { ...OFFSET },
                to: { ...OFFSET },
                every: { ...OFFSET },
                /** Arrives this much later than it happened. */
                late: { ...OFFSET },
                event: { type: 'object' },
                /** Fields over those of `event`, which is often an alias. */
                with: { type: 'object' },
                line: { type: 'string' },
              },
            },
          },
          readings: {
            type: 'array',
            default: [],
            items: {
              type: 'object',
              additionalProperties: false,
              required: ['measure', 'value'],
              properties: {
                at: { ...OFFSET },
                from: { ...OFFSET },
                to: { ...OFFSET },
                every: { ...OFFSET },
                measure: { type: 'string' },
                labels: { type: 'object', default: {} },
                value: { type: 'number' },
              },
            },
          },
          /** When logpipe reads nothing: of one partition, or of all. */
          stalls: {
            type: 'array',
            default: [],
            items: {
              type: 'object',
              additionalProperties: false,
              required: ['from', 'to'],
              properties: {
                from: { ...OFFSET },
                to: { ...OFFSET },
                partition: { type: 'integer', minimum: 0, maximum: 3 },
              },
            },
          },
          expect: {
            type: 'object',
            additionalProperties: false,
            properties: {
              /** Rules that this test is about because they say nothing, though little is missing. */
              silent: { type: 'array', default: [], items: { type: 'string' } },
              alerts: {
                type: 'array',
                default: [],
                items: {
                  type: 'object',
                  additionalProperties: false,
                  required: ['rule', 'fires'],
                  properties: {
                    rule: { type: 'string' },
                    labels: { type: 'object', default: {} },
                    fires: { ...RANGE },
                    resolves: { ...RANGE },
                    muted: { type: 'boolean', default: false },
                  },
                },
              },
              messages: {
                type: 'array',
                items: {
                  type: 'object',
                  additionalProperties: false,
                  required: ['at', 'title'],
                  properties: {
                    at: { ...RANGE },
                    title: { type: 'string' },
                    action: { enum: ['trigger', 'resolve'], default: 'trigger' },
                    reason: { enum: NOTIFY_REASONS },
                    to: { type: 'array', items: { enum: ['slack', 'pagerduty', 'email'] } },
                    message: { type: 'string' },
                    metadata: { type: 'object' },
                  },
                },
              },
            },
          },
        },
      },
    },
  },
} as const satisfies Schema;
