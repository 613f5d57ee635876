// Lines of CSV files (RFC 4180). Guarantee: one line per call; what a spreadsheet would take for a formula is text.

export function csvLine(cells: readonly string[]): string {
  return `${cells.map(cell).join(',')}\n`;
}

function cell(text: string): string {
  const plain = text.replace(/[\r\n]+/g, ' ');
  const safe = /^[=+@\t]|^-(?!\d)/.test(plain) ? `'${plain}` : plain;
  return /[",]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
