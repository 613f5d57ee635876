// Text of log records on a terminal.

// Control characters, line separators and direction overrides: a record must not move the cursor or hide text.
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]+/g;

/** The text on one line, at most `width` characters. */
export function oneLine(text: string, width = Number.POSITIVE_INFINITY): string {
  const plain = text.replace(UNPRINTABLE, ' ');
  return plain.length > width ? `${plain.slice(0, width - 1)}…` : plain;
}
