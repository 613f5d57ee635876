// Text of others on a terminal and in JSON. In: any text. Out: the same text with every character that a reader cannot see, or that
// moves a cursor, turns the direction or ends a line, written as an escape. Guarantee: linear; ordinary text comes back as it is.

// C0, DEL and C1 controls (ESC begins ANSI and OSC sequences); soft hyphen and other marks without a width; direction marks,
// embeddings, overrides and isolates; line and paragraph separators; fillers that look like nothing; tags; lone surrogates.
const INVISIBLE =
  '\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ud800-\\udfff\\ufeff\\uffa0\\ufff0-\\ufffb\\u{1bca0}-\\u{1bca3}\\u{1d173}-\\u{1d17a}\\u{e0000}-\\u{e0fff}';
const IN_FIELD = new RegExp(`[\\u0000-\\u001f${INVISIBLE}]`, 'gu');
const IN_OUTPUT = new RegExp(`[\\u0000-\\u0008\\u000b-\\u001f${INVISIBLE}]`, 'gu');
const IN_JSON = new RegExp(`[${INVISIBLE}]`, 'gu');

const SHORT: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** One field of somebody else's text: on one line, nothing in it works on the terminal. */
export function visible(text: string): string {
  return text.replace(IN_FIELD, escaped);
}

/** What a command prints, possibly several lines: line ends and tabs stay, they are its own. */
export function visibleLines(text: string): string {
  return text.replace(IN_OUTPUT, escaped);
}

/** Serialised JSON with the same meaning, whose texts hold no such character. */
export function visibleJson(json: string): string {
  return json.replace(IN_JSON, units);
}

/** `visible`, in at most `width` UTF-16 units; a cut is shown. */
export function oneLine(text: string, width = Number.POSITIVE_INFINITY): string {
  // What is far behind the cut need not be escaped.
  const plain = visible(text.length > width ? text.slice(0, width + 1) : text);
  return plain.length > width ? `${plain.slice(0, width - 1).replace(/[\ud800-\udbff]$/, '')}…` : plain;
}

function escaped(character: string): string {
  return SHORT[character] ?? units(character);
}

function units(character: string): string {
  let text = '';
  for (let i = 0; i < character.length; i++) text += `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`;
  return text;
}
