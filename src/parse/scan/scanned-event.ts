// The event of a line that was scanned and not parsed. In: what the scanner found in it. Out: the same as the parser's event, the document
// included, which is made of the line when somebody asks for it. Guarantee: whatever was asked or not, it stays the same event; where
// its fields stand is known only until the next line is scanned, and then nobody is told.
import { fieldNumber } from './key-tree.ts';
import type { Scan } from './scanner.ts';

const TIMESTAMP = fieldNumber('timestamp');
const ERROR = fieldNumber('error');
/** Of a time as logpipe writes it. */
export const TIME_LENGTH = 24;

/** What groups errors. */
interface Group {
  readonly template: string;
  readonly fingerprint: string;
}

/** A class, because one is made per line on the hot path. */
export class ScannedEvent {
  readonly verbatim = true;
  readonly timeMs: number;
  readonly tags: readonly string[];
  /** Only of a tagged event. */
  declare grouping?: Group | undefined;
  /** Where in the line its own error ends, in a tagged event that has a group and such an error. */
  declare errorEnd?: number;
  /** Those the line lies in, which stay as they are for as long as the event is used. */
  readonly bytes: Buffer;
  readonly #start: number;
  readonly #end: number;
  /** Where in them the text of `timeMs` stands, as logpipe writes it; -1 for nowhere. */
  readonly timeAt: number;
  readonly #scan: Scan;
  readonly #line: number;
  #doc: Record<string, unknown> | undefined = undefined;

  /** @param end where the line that was scanned last ends. @param isOwnTime `timeMs` is what it says */
  constructor(scan: Scan, end: number, timeMs: number, isOwnTime: boolean, tags: readonly string[]) {
    this.timeMs = timeMs;
    this.tags = tags;
    this.bytes = scan.bytes;
    this.#start = scan.start;
    this.#end = end;
    this.timeAt = isOwnTime && scan.isCanonical ? scan.places[2 * TIMESTAMP]! + 1 : -1;
    this.#scan = scan;
    this.#line = scan.line;
  }

  get doc(): Record<string, unknown> {
    this.#doc ??= JSON.parse(this.bytes.toString('utf8', this.#start, this.#end)) as Record<string, unknown>;
    return this.#doc;
  }

  get timeText(): string | undefined {
    const at = this.timeAt;
    return at < 0 ? undefined : this.bytes.toString('latin1', at, at + TIME_LENGTH);
  }

  /** The same event, which needs no tags: tagging a line should not cost an object. */
  tagged(): ScannedEvent & { readonly grouping: undefined } {
    this.grouping = undefined;
    return this as ScannedEvent & { readonly grouping: undefined };
  }

  /** The event with these tags and this group. Before another line is scanned. */
  grouped<G extends Group>(tags: readonly string[], grouping: G): ScannedEvent & { readonly grouping: G } {
    const scan = this.#scan;
    const event = new ScannedEvent(scan, this.#end, this.timeMs, this.timeAt >= 0, tags);
    event.grouping = grouping;
    if (scan.has(ERROR)) event.errorEnd = scan.places[2 * ERROR + 1]! - this.#start;
    return event as ScannedEvent & { readonly grouping: G };
  }

  /** Where its fields stand; undefined once another line was scanned. */
  get scan(): Scan | undefined {
    return this.#scan.line === this.#line ? this.#scan : undefined;
  }
}
