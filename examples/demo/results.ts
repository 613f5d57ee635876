// What came out at the end of the pipeline, asked where it came out: documents per index, errors, their templates.

export interface Results {
  /** Documents per index, or per NDJSON file. */
  indices: Record<string, number>;
  total: number;
  /** Documents tagged `error`. */
  errors: number;
  /** The most frequent error templates, most frequent first. */
  templates: { template: string; count: number }[];
}

export interface ResultsReader {
  /** `fresh`: everything written so far is to be seen, at the price of a refresh. */
  read(options?: { fresh?: boolean }): Promise<Results>;
  /** Commands a reader may copy. */
  hints(): string[];
}

export const TOP_TEMPLATES = 5;
