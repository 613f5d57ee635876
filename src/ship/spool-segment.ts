// The files of a spool, as bytes. In: records, and what became of them. Out: lines of text, and back. Guarantee: a line that is torn
// or damaged is recognised by its checksum and costs only itself; nothing that a file holds makes reading it throw.
//
// `00000001.log` begins with its format and the ordinal of its first record, then one frame for each record:
//   crc32 \t logpipe-spool 1 0 \n
//   crc32 \t R \t ordinal \t event id \t partition or - \t key as JSON or - \t line \n
// crc32 is eight hexadecimal digits over everything behind the tab that follows it, without the newline. Type J instead of R: the line
// would have broken the frame, and is a JSON string. A partition: the record was attempted there before, and the outcome is unknown.
// `00000001.notes` says what became of the records of that segment since:
//   crc32 \t A \t partition \t 0,2,5-9 \n    about to be attempted in that partition
//   crc32 \t D \t 0-499 \n                   done: delivered, or refused and counted
import { crc32 } from 'node:zlib';
import type { ShipRecord } from './log-record.ts';

/** Of the files; a newer number is refused. */
export const FORMAT = 1;
const NAME = 'logpipe-spool';
const CRC_DIGITS = 8;
/** Where the checksummed part of a line begins. */
const BODY = CRC_DIGITS + 1;
/** No frame is shorter: an ordinal that the file has no room for is not believed. */
export const MIN_FRAME_BYTES = 20;
/** No frame is longer: a record has at most 1,000,000 bytes, and JSON makes six of one at worst. */
export const MAX_FRAME_BYTES = 8 * 1024 * 1024;
const TAB = 0x09;
const NEWLINE = 0x0a;
const QUOTE = 0x22;
const NONE = '-';
const UNSAFE_ID = /[\t\n"]/;

const HEX = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0')).join(''));

/** The first line of a log. */
export function header(firstOrdinal: number): string {
  return checked(`${NAME} ${FORMAT} ${firstOrdinal}`);
}

/** undefined when the line is damaged. */
export function readHeader(
  line: Buffer,
): { readonly newer: number | undefined; readonly firstOrdinal: number } | undefined {
  const body = checkedBody(line);
  const [, version, first = ''] =
    body === undefined ? [] : (/^logpipe-spool (\d{1,9})(?: (\d{1,15}))?/.exec(body) ?? []);
  if (version === undefined) return undefined;
  return { newer: Number(version) > FORMAT ? Number(version) : undefined, firstOrdinal: Number(first) };
}

/** A record on its way into a file: measured, then written in place. */
export interface Frame {
  readonly head: string;
  readonly line: string;
}

export function frameOf(ordinal: number, record: ShipRecord, partition: number | undefined): Frame {
  const { line, eventId, key } = record;
  const breaks = line.includes('\n');
  const id = UNSAFE_ID.test(eventId) ? JSON.stringify(eventId) : eventId;
  const where = partition === undefined ? NONE : partition;
  const head = `${breaks ? 'J' : 'R'}\t${ordinal}\t${id}\t${where}\t${key === null ? NONE : JSON.stringify(key)}\t`;
  return { head, line: breaks ? JSON.stringify(line) : line };
}

/** Bytes that the frame takes. */
export function frameBytes({ head, line }: Frame): number {
  return BODY + Buffer.byteLength(head) + Buffer.byteLength(line) + 1;
}

/** @returns where the frame ends; the buffer must have room for it */
export function writeFrame(target: Buffer, at: number, { head, line }: Frame): number {
  const body = at + BODY;
  let end = body + target.write(head, body);
  end += target.write(line, end);
  writeHex(target, at, crc32(target.subarray(body, end)));
  target[at + CRC_DIGITS] = TAB;
  target[end] = NEWLINE;
  return end + 1;
}

function writeHex(target: Buffer, at: number, value: number): void {
  for (let i = 0; i < 4; i++) {
    const byte = (value >>> (24 - i * 8)) & 0xff;
    target[at + i * 2] = HEX[byte * 2]!;
    target[at + i * 2 + 1] = HEX[byte * 2 + 1]!;
  }
}

export interface FrameRead {
  readonly ordinal: number;
  readonly record: ShipRecord;
  readonly partition: number | undefined;
}

/** A line of a log, without its newline. undefined when it is damaged. */
export function readFrame(line: Buffer): FrameRead | undefined {
  if (!isWhole(line)) return undefined;
  const isJson = line[BODY] === 0x4a;
  const ordinalAt = BODY + 2;
  const idAt = line.indexOf(TAB, ordinalAt) + 1;
  const partitionAt = line.indexOf(TAB, idAt) + 1;
  const keyAt = line.indexOf(TAB, partitionAt) + 1;
  const lineAt = line.indexOf(TAB, keyAt) + 1;
  if (idAt === 0 || partitionAt === 0 || keyAt === 0 || lineAt === 0) return undefined;
  const where = line.toString('latin1', partitionAt, keyAt - 1);
  const ordinal = Number(line.toString('latin1', ordinalAt, idAt - 1));
  const partition = where === NONE ? undefined : Number(where);
  try {
    const id = line.toString('utf8', idAt, partitionAt - 1);
    const key = line.toString('utf8', keyAt, lineAt - 1);
    const text = line.toString('utf8', lineAt);
    const whole = isJson ? (JSON.parse(text) as string) : text;
    const record = {
      line: whole,
      eventId: line[idAt] === QUOTE ? (JSON.parse(id) as string) : id,
      key: key === NONE ? null : (JSON.parse(key) as string),
      bytes: isJson ? Buffer.byteLength(whole) : line.length - lineAt,
    };
    return { ordinal, record, partition };
  } catch {
    return undefined;
  }
}

/** The ordinal alone, for records that are only counted. undefined when the line is damaged. */
export function readPlace(
  line: Buffer,
): { readonly ordinal: number; readonly partition: number | undefined } | undefined {
  if (!isWhole(line)) return undefined;
  const ordinalAt = BODY + 2;
  const idAt = line.indexOf(TAB, ordinalAt) + 1;
  const partitionAt = line.indexOf(TAB, idAt) + 1;
  if (idAt === 0 || partitionAt === 0) return undefined;
  const ordinal = Number(line.toString('latin1', ordinalAt, idAt - 1));
  const where =
    line[partitionAt] === 0x2d ? NONE : line.toString('latin1', partitionAt, line.indexOf(TAB, partitionAt));
  return { ordinal, partition: where === NONE ? undefined : Number(where) };
}

// ---- notes ----

export type Note =
  | { readonly kind: 'attempting'; readonly partition: number; readonly ranges: readonly Range[] }
  | { readonly kind: 'done'; readonly ranges: readonly Range[] };
/** First and last ordinal. */
export type Range = readonly [number, number];

/** @param ordinals in any order */
export function attemptingNote(partition: number, ordinals: readonly number[]): string {
  return checked(`A\t${partition}\t${rangesText(ordinals)}`);
}

export function doneNote(ordinals: readonly number[]): string {
  return checked(`D\t${rangesText(ordinals)}`);
}

/** The whole notes of a file; lines that are torn or damaged are left out. */
export function readNotes(bytes: Buffer): Note[] {
  const notes: Note[] = [];
  for (let at = 0; at < bytes.length; ) {
    const newline = bytes.indexOf(NEWLINE, at);
    if (newline === -1) break;
    const fields = checkedBody(bytes.subarray(at, newline))?.split('\t');
    if (fields?.[0] === 'D') notes.push({ kind: 'done', ranges: ranges(fields[1]) });
    else if (fields?.[0] === 'A')
      notes.push({ kind: 'attempting', partition: Number(fields[1]), ranges: ranges(fields[2]) });
    at = newline + 1;
  }
  return notes;
}

function rangesText(ordinals: readonly number[]): string {
  const sorted = Float64Array.from(ordinals).sort();
  let text = '';
  for (let i = 0; i < sorted.length; ) {
    const first = sorted[i]!;
    let last = first;
    for (i++; i < sorted.length && sorted[i]! <= last + 1; i++) last = sorted[i]!;
    text += `${text === '' ? '' : ','}${first === last ? first : `${first}-${last}`}`;
  }
  return text;
}

function ranges(text = ''): Range[] {
  return text.split(',').map((part) => {
    const [first, last = first] = part.split('-').map(Number) as [number, number?];
    return [first, last];
  });
}

// ---- checksums ----

function checked(body: string): string {
  return `${crc32(body).toString(16).padStart(CRC_DIGITS, '0')}\t${body}\n`;
}

function isWhole(line: Buffer): boolean {
  if (line.length <= BODY || line[CRC_DIGITS] !== TAB) return false;
  const sum = crc32(line.subarray(BODY));
  for (let i = 0; i < 4; i++) {
    const byte = (sum >>> (24 - i * 8)) & 0xff;
    if (line[i * 2] !== HEX[byte * 2] || line[i * 2 + 1] !== HEX[byte * 2 + 1]) return false;
  }
  return true;
}

function checkedBody(line: Buffer): string | undefined {
  return isWhole(line) ? line.toString('utf8', BODY) : undefined;
}
