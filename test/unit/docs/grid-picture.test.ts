// The picture of a dashboard's layout: every panel where the grid puts it, for a grid of any width.
import { expect, test } from 'vitest';
import { gridPicture } from '../../../scripts/grid-picture.ts';

const place = (svg: string, title: string) => {
  const before = svg.slice(0, svg.indexOf(`>${title}<`));
  const [, x, y, width, height] = /x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"[^<]*<text[^<]*$/.exec(
    before.replace(/\/>\s+</g, '/><'),
  )!;
  return { x: Number(x), y: Number(y), width: Number(width), height: Number(height) };
};

test.each([24, 48])('of %d columns: halves are as wide as each other, and stand where they should', (columns) => {
  const half = columns / 2;
  const svg = gridPicture({
    title: 'A & B',
    columns,
    panels: [
      { title: 'left', x: 0, y: 0, w: half, h: 8 },
      { title: 'right', x: half, y: 0, w: half, h: 8 },
      { title: 'below', x: 0, y: 8, w: columns, h: 4 },
    ],
  });
  const [left, right, below] = ['left', 'right', 'below'].map((title) => place(svg, title)) as [
    ReturnType<typeof place>,
    ReturnType<typeof place>,
    ReturnType<typeof place>,
  ];
  expect(left.width).toBe(right.width);
  expect([left.y, left.height]).toEqual([right.y, right.height]);
  // Between the panels is the same gap in both directions.
  const gap = right.x - (left.x + left.width);
  expect(gap).toBeGreaterThan(0);
  expect(below.y - (left.y + left.height)).toBeCloseTo(gap);
  expect(below.x + below.width).toBeCloseTo(right.x + right.width);
  expect(svg).toContain('<title>A &amp; B</title>');
});

test('a title longer than its panel is cut, and a panel outside of the grid is refused', () => {
  const panel = { title: 'words '.repeat(40), x: 0, y: 0, w: 12, h: 4 };
  expect(gridPicture({ title: 't', columns: 48, panels: [panel] })).toMatch(/>words [^<]{5,40}…</);
  expect(() => gridPicture({ title: 't', columns: 24, panels: [{ ...panel, x: 13 }] })).toThrow(
    /leaves the grid of 24/,
  );
});
