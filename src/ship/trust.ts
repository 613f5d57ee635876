// Whether the logger's format writes real JSON, and of this info object. A format written as a template
// (`{"message":"${message}"}`) looks like JSON until a quote is logged, and a format may add fields of its own. Parsing every
// line would cost more than anything else here, so trust is earned first and checked again and again.

const PROBATION = 50;
const SAMPLE_EVERY = 256;

export interface Trust {
  /**
   * Is `line` one line of JSON with no other top-level fields than `info` has? `risky`: it holds text that a template would
   * get wrong. One line that is not ends the trust for good.
   */
  accepts(line: string, info: object, risky: boolean): boolean;
}

export function createTrust(): Trust {
  let seen = 0;
  let broken = false;
  return {
    accepts(line, info, risky) {
      if (broken) return false;
      seen = (seen + 1) & 0x3fffffff;
      if (!risky && seen > PROBATION && seen % SAMPLE_EVERY !== 0) return true;
      broken = !matches(line, info);
      return !broken;
    },
  };
}

function matches(line: string, info: object): boolean {
  if (line.includes('\n')) return false;
  try {
    const parsed: unknown = JSON.parse(line);
    if (typeof parsed !== 'object' || parsed === null) return false;
    const fields = Object.keys(parsed);
    return fields.includes('level') && fields.includes('message') && fields.every((key) => Object.hasOwn(info, key));
  } catch {
    return false;
  }
}
