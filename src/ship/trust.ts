// Whether the logger's format writes real JSON. A format written as a template (`{"message":"${message}"}`) looks like JSON
// until a quote is logged. Parsing every line would cost more than anything else here, so trust is earned and checked.

const PROBATION = 50;
const SAMPLE_EVERY = 256;

export interface Trust {
  /** `risky`: the line holds text that a template would get wrong. One bad line ends the trust for good. */
  accepts(line: string, risky: boolean): boolean;
}

export function createTrust(): Trust {
  let seen = 0;
  let broken = false;
  return {
    accepts(line, risky) {
      if (broken) return false;
      seen = (seen + 1) | 0;
      if (!risky && seen > PROBATION && seen % SAMPLE_EVERY !== 0) return true;
      try {
        JSON.parse(line);
        return true;
      } catch {
        broken = true;
        return false;
      }
    },
  };
}
