// A picture of a dashboard's layout, drawn from the places of its panels: for any grid, Kibana's of 48 columns as well as
// Grafana's of 24. In: panels in cells. Out: SVG text; the same input gives the same bytes. It shows where each panel is, not
// what a browser draws.

export interface PicturePanel {
  readonly title: string;
  /** In small letters below the title. */
  readonly note?: string;
  /** In cells, from the upper left. */
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
}

export interface GridPicture {
  readonly title: string;
  /** Names of the filters above the grid. */
  readonly controls?: readonly string[];
  /** Cells side by side. */
  readonly columns: number;
  readonly panels: readonly PicturePanel[];
}

const WIDTH = 960;
const ROW_HEIGHT = 12;
const MARGIN = 12;
const TITLE_HEIGHT = 34;
const CONTROLS_HEIGHT = 34;
const GAP = 3;
/** Assumed width of a letter, for cutting a title to its panel: a picture must not depend on installed fonts. */
const LETTER = 7.6;

/** @throws RangeError when a panel leaves the grid */
export function gridPicture({ title, controls = [], columns, panels }: GridPicture): string {
  for (const { title: name, x, y, w, h } of panels) {
    if (x < 0 || y < 0 || w < 1 || h < 1 || x + w > columns) {
      throw new RangeError(`panel ${name}: ${x},${y} ${w}×${h} leaves the grid of ${columns} columns`);
    }
  }
  const rows = Math.max(0, ...panels.map(({ y, h }) => y + h));
  const top = MARGIN + TITLE_HEIGHT + (controls.length > 0 ? CONTROLS_HEIGHT : 0);
  const height = top + rows * ROW_HEIGHT + MARGIN;
  const cell = (WIDTH - 2 * MARGIN) / columns;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" role="img">`,
    `  <title>${xml(title)}</title>`,
    `  <rect width="${WIDTH}" height="${height}" fill="#f5f7fa"/>`,
    text(MARGIN + GAP, MARGIN + 20, 16, title, '#1a1c21', 'bold'),
    ...controls.flatMap((name, i) => {
      const width = (WIDTH - 2 * MARGIN) / controls.length;
      const x = MARGIN + i * width + GAP;
      const y = MARGIN + TITLE_HEIGHT;
      return [box(x, y, width - 2 * GAP, CONTROLS_HEIGHT - 2 * GAP), text(x + 10, y + 19, 12, `${name} ▾`, '#69707d')];
    }),
    ...panels.flatMap(({ title: name, note = '', x, y, w, h }) => {
      const left = MARGIN + x * cell + GAP;
      const above = top + y * ROW_HEIGHT + GAP;
      const width = w * cell - 2 * GAP;
      return [
        box(left, above, width, h * ROW_HEIGHT - 2 * GAP),
        text(left + 10, above + 20, 13, cut(name, width - 20), '#1a1c21', 'bold'),
        ...(note === '' || h < 4 ? [] : [text(left + 10, above + 37, 11, cut(note, width - 20), '#69707d')]),
      ];
    }),
    '</svg>',
    '',
  ].join('\n');
}

function box(x: number, y: number, width: number, height: number): string {
  return `  <rect x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}" rx="4" fill="#ffffff" stroke="#d3dae6"/>`;
}

function text(x: number, y: number, size: number, words: string, fill: string, weight = 'normal'): string {
  const place = `x="${round(x)}" y="${round(y)}" font-size="${size}"`;
  return `  <text ${place} font-weight="${weight}" fill="${fill}">${xml(words)}</text>`;
}

function cut(words: string, width: number): string {
  const letters = Math.max(1, Math.floor(width / LETTER));
  return words.length > letters ? `${words.slice(0, letters - 1)}…` : words;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function xml(words: string): string {
  return words.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
