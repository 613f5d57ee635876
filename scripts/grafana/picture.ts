// The picture of a Grafana dashboard in the docs. In: the dashboard as it is imported. Out: SVG text.
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import { gridPicture } from '../grid-picture.ts';
import { GRID_COLUMNS } from './dashboard.ts';

/** A cell of Grafana is about as high as three lines of the picture. */
const LINES_PER_CELL = 3;

export function dashboardPicture({ title, panels = [] }: Dashboard): string {
  return gridPicture({
    title: title!,
    columns: GRID_COLUMNS,
    panels: panels.map((panel) => {
      const { x, y, w, h } = panel.gridPos!;
      return {
        title: panel.title ?? '',
        note: panel.type === 'row' ? '' : (KINDS[panel.type] ?? panel.type),
        x,
        y: y * LINES_PER_CELL,
        w,
        h: h * LINES_PER_CELL,
      };
    }),
  });
}

const KINDS: Readonly<Record<string, string>> = { timeseries: 'graph', piechart: 'pie' };
