// The event of a line that was scanned and not parsed. In: what the scanner found in it. Out: the same as the parser's event, the document
// included, which is made of the line when somebody asks for it. Guarantee: whatever was asked or not, it stays the same event; where
// its fields stand is known only until the next line is scanned, and then nobody is told.
import type { Scan } from './scanner.ts';

/** A class, because one is made per line on the hot path. */
export class ScannedEvent {
  readonly verbatim = true;
  readonly timeMs: number;
  readonly tags: readonly string[];
  /** Only of a tagged event. One that needs a group is read as a document. */
  declare grouping?: undefined;
  readonly #value: Buffer;
  /** Where the text of `timeMs` stands in the line; -1 for nowhere. */
  readonly #timeAt: number;
  readonly #scan: Scan;
  readonly #line: number;
  #doc: Record<string, unknown> | undefined = undefined;

  /** @param value the line, whose bytes stay as they are for as long as the event is used */
  constructor(scan: Scan, value: Buffer, time: { ms: number; at: number }, tags: readonly string[]) {
    this.#scan = scan;
    this.#line = scan.line;
    this.#value = value;
    this.timeMs = time.ms;
    this.#timeAt = time.at;
    this.tags = tags;
  }

  get doc(): Record<string, unknown> {
    this.#doc ??= JSON.parse(this.#value.toString()) as Record<string, unknown>;
    return this.#doc;
  }

  get timeText(): string | undefined {
    const at = this.#timeAt;
    return at < 0 ? undefined : this.#value.toString('latin1', at, at + TIME_LENGTH);
  }

  /** The same event, which needs no tags: tagging a line should not cost an object. */
  tagged(): ScannedEvent & { readonly grouping: undefined } {
    this.grouping = undefined;
    return this as ScannedEvent & { readonly grouping: undefined };
  }

  /** Where its fields stand; undefined once another line was scanned. */
  get scan(): Scan | undefined {
    return this.#scan.line === this.#line ? this.#scan : undefined;
  }
}

const TIME_LENGTH = 24;
