// Lines of CSV files (RFC 4180). Guarantee: one line per call; what a spreadsheet would take for a formula is text; what cannot be
// seen is written as an escape.
import { visible } from '../core/terminal-text.ts';

export function csvLine(cells: readonly string[]): string {
  return `${cells.map(cell).join(',')}\n`;
}

function cell(text: string): string {
  // The full-width forms are formulas in some countries' settings.
  const formula = /^[ ]{0,100}[=+\-@\uff1d\uff0b\uff0d\uff20]|^[\t\r\n]/.test(text) && !/^-?\d+(?:\.\d+)?$/.test(text);
  const safe = `${formula ? "'" : ''}${visible(text)}`;
  return /[",;]|^[' ]| $/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
