// Event ids: ULIDs (48-bit millisecond time, 80 random bits, Crockford base 32), so they sort by creation time and
// Elasticsearch, which compresses sorted ids well, can use them as document ids. https://github.com/ulid/spec
import { randomBytes } from 'node:crypto';

const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const FORMAT = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/;
const TIME_LENGTH = 10;
const RANDOM_LENGTH = 16;

/** True for a canonical (upper case) ULID. */
export function isEventId(text: string): boolean {
  return text.length === TIME_LENGTH + RANDOM_LENGTH && FORMAT.test(text);
}

/** When an event id was made, in ms, by the clock of the host that made it. */
export function timeOfEventId(eventId: string): number {
  let ms = 0;
  for (let i = 0; i < TIME_LENGTH; i++) ms = ms * 32 + ALPHABET.indexOf(eventId[i]!);
  return ms;
}

function encodeTime(ms: number): string {
  let text = '';
  for (let rest = ms, i = 0; i < TIME_LENGTH; i++) {
    text = ALPHABET[rest % 32] + text;
    rest = Math.floor(rest / 32);
  }
  return text;
}

/**
 * A generator of strictly increasing ids. Within one millisecond the random part counts up by one, as the ULID
 * specification asks of monotonic factories; a clock that steps back keeps the last time.
 */
export function createEventIds(now: () => number = Date.now): () => string {
  let time = -1;
  let timeText = '';
  // The random part as 12 fixed characters and a counter of the last four (20 bits): incrementing touches only those.
  let head = '';
  let counter = 0;

  const reseed = () => {
    const bytes = randomBytes(RANDOM_LENGTH);
    head = '';
    for (let i = 0; i < RANDOM_LENGTH - 4; i++) head += ALPHABET[bytes[i]! & 31];
    // The top bit stays clear so that at least 2^19 ids fit into the millisecond before it has to be left.
    counter = ((bytes[12]! << 16) | (bytes[13]! << 8) | bytes[14]!) & 0x7ffff;
  };

  return () => {
    const ms = now();
    if (ms > time) {
      time = ms;
      timeText = encodeTime(ms);
      reseed();
    } else if (++counter > 0xfffff) {
      time += 1;
      timeText = encodeTime(time);
      reseed();
    }
    return (
      timeText +
      head +
      ALPHABET[counter >> 15] +
      ALPHABET[(counter >> 10) & 31] +
      ALPHABET[(counter >> 5) & 31] +
      ALPHABET[counter & 31]
    );
  };
}
