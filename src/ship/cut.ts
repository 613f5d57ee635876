// Records that are too long. In: a record and the number of bytes it may have. Out: its JSON, not longer than that, tagged
// `_truncated` and with `originalBytes`. Guarantee: who, when and how severe (KEPT) always survive.

const KEPT = new Set([
  ...['timestamp', 'level', 'service', 'environment', 'version', 'host', 'pid', 'eventId', 'event', 'tags'],
  ...['originalBytes', 'callId', 'tenantId'],
]);
const MAX_KEPT_CHARS = 200;

/** The record's tags with one more; whatever was there before stays first. */
export function withTag(tags: unknown, tag: string): unknown[] {
  const list = Array.isArray(tags) ? tags : tags === undefined || tags === null ? [] : [tags];
  return list.includes(tag) ? list : [...list, tag];
}

/** `record` is changed in place. `maxBytes` counts UTF-8 and is at least 1,000. */
export function cutRecord(record: Record<string, unknown>, maxBytes: number, originalBytes: number): string {
  record.originalBytes = originalBytes;
  record.tags = withTag(record.tags, '_truncated');
  let line = JSON.stringify(record);
  let excess = Buffer.byteLength(line) - maxBytes;
  for (const key of largestFirst(record)) {
    if (excess <= 0) return line;
    const value = record[key];
    if (typeof value === 'string') record[key] = shorten(value, excess);
    else if (key === 'error' && typeof value === 'object' && value !== null) {
      shortenWithin(value as Record<string, unknown>, excess);
    } else delete record[key];
    line = JSON.stringify(record);
    excess = Buffer.byteLength(line) - maxBytes;
  }
  if (excess <= 0) return line;
  // Only the kept fields are left, and one of them is far longer than its meaning needs.
  for (const key of Object.keys(record)) {
    const value = record[key];
    if (!KEPT.has(key)) delete record[key];
    else if (key === 'tags') record[key] = ['_truncated'];
    else if (typeof value === 'string') record[key] = value.slice(0, MAX_KEPT_CHARS).toWellFormed();
    else if (typeof value === 'object') delete record[key];
  }
  line = JSON.stringify(record);
  if (Buffer.byteLength(line) <= maxBytes) return line;
  const { timestamp, level, eventId } = record;
  return JSON.stringify({ timestamp, level, message: '', eventId, originalBytes, tags: ['_truncated'] });
}

function largestFirst(record: Record<string, unknown>): string[] {
  return Object.keys(record)
    .filter((key) => !KEPT.has(key))
    .map((key) => ({ key, size: JSON.stringify(record[key])?.length ?? 0 }))
    .sort((a, b) => b.size - a.size)
    .map(({ key }) => key);
}

function shortenWithin(error: Record<string, unknown>, excess: number): void {
  let left = excess;
  for (const key of largestFirst(error)) {
    if (left <= 0) return;
    if (key === 'name' || key === 'code') continue;
    const value = error[key];
    if (typeof value !== 'string') continue;
    const short = shorten(value, left);
    left -= size(value) - size(short);
    error[key] = short;
  }
}

/** The longest beginning of `value` whose JSON is at least `excess` bytes shorter. */
function shorten(value: string, excess: number): string {
  const target = size(value) - excess;
  let low = 0;
  let high = value.length;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (size(value.slice(0, middle)) <= target) low = middle;
    else high = middle - 1;
  }
  // Not in the middle of a surrogate pair.
  const last = value.charCodeAt(low - 1);
  return value.slice(0, last >= 0xd800 && last <= 0xdbff ? low - 1 : low);
}

function size(value: string): number {
  return Buffer.byteLength(JSON.stringify(value));
}
