// What the application says about itself on standard output with `--report`: one JSON object per line.

export type AppReport =
  | { type: 'listening'; url: string }
  /** Events logged at the shipped level since the start, and how many of them were given up. */
  | { type: 'progress' | 'final'; produced: number; dropped: number };
