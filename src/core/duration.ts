// Durations as people write them in YAML: `500ms`, `30s`, `5m`, `1h`, `7d`. Guarantee: what the pattern takes, durationMs reads.

const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** JSON Schema of a duration. */
export const durationSchema = {
  type: 'string',
  pattern: '^[1-9]\\d{0,8}(ms|s|m|h|d)$',
} as const;

/** @param text what `durationSchema` takes; anything else is a bug and gives NaN */
export function durationMs(text: string): number {
  const unit = /(?:ms|[smhd])$/.exec(text)?.[0] as keyof typeof UNIT_MS;
  return Number.parseInt(text, 10) * UNIT_MS[unit];
}
