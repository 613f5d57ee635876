// A dashboard from rows of panels: places and ids in reading order. Out: the JSON object that Grafana imports; the same rows
// give the same bytes.
import {
  type Dashboard,
  DashboardBuilder,
  DashboardCursorSync,
  DatasourceVariableBuilder,
  RowBuilder,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { DATASOURCE, type Panel } from './panels.ts';

export const GRID_COLUMNS = 24;

/**
 * The version of the format, lower than what the library writes for the newest Grafana: every Grafana upgrades an older format
 * by itself, but may refuse a newer one.
 */
const SCHEMA_VERSION = 39;

export interface Row {
  readonly title: string;
  /** Height of all its panels, in grid cells. */
  readonly height: number;
  /** Side by side; a new line begins where the next one does not fit. */
  readonly panels: readonly Panel[];
}

export interface DashboardOptions {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly rows: readonly Row[];
}

/** @throws RangeError when a line of panels does not fill the grid's width */
export function dashboardOf({ uid, title, description, rows }: DashboardOptions): Dashboard {
  const builder = new DashboardBuilder(title)
    .uid(uid)
    .description(description)
    .tags(['calling-platform'])
    .timezone('browser')
    .time({ from: 'now-1h', to: 'now' })
    .refresh('30s')
    .tooltip(DashboardCursorSync.Crosshair)
    .withVariable(new DatasourceVariableBuilder('datasource').label('Data source').type(DATASOURCE.type!));
  let id = 0;
  let y = 0;
  for (const row of rows) {
    id += 1;
    builder.withRow(new RowBuilder(row.title).id(id).gridPos({ x: 0, y, w: GRID_COLUMNS, h: 1 }));
    y += 1;
    let x = 0;
    for (const panel of row.panels) {
      if (x === GRID_COLUMNS) {
        x = 0;
        y += row.height;
      }
      id += 1;
      builder.withPanel(panel.place(id, { x, y, w: panel.w, h: row.height }));
      x += panel.w;
    }
    if (x !== GRID_COLUMNS)
      throw new RangeError(`row ${row.title}: its last line is ${x} of ${GRID_COLUMNS} columns wide`);
    y += row.height;
  }
  return { ...builder.build(), schemaVersion: SCHEMA_VERSION };
}
