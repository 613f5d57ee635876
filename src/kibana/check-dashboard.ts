// A dashboard's grid and controls. In: its panels and controls, of known shape. Out: problems as texts, and the references
// that Kibana will look for, by name and type.

import { type Fields, fieldProblem } from './check-fields.ts';
import { GRID_COLUMNS } from './dashboard.ts';

export interface Panel {
  readonly type: string;
  readonly panelIndex: string;
  readonly panelRefName: string;
  readonly gridData: {
    readonly x: number;
    readonly y: number;
    readonly w: number;
    readonly h: number;
    readonly i: string;
  };
}

export interface ControlPanel {
  readonly order: number;
  readonly explicitInput: { readonly id: string; readonly fieldName: string };
}

export function panelReference({ panelIndex, panelRefName }: Panel): string {
  return `${panelIndex}:${panelRefName}`;
}

export function controlReference(id: string): string {
  return `controlGroup_${id}:optionsListDataView`;
}

export function gridProblems(panels: readonly Panel[]): string[] {
  const problems: string[] = [];
  panels.forEach((panel, n) => {
    const { panelIndex, gridData } = panel;
    const place = `panel "${panelIndex}"`;
    if (gridData.i !== panelIndex) problems.push(`${place}: gridData.i is "${gridData.i}"`);
    if (gridData.x + gridData.w > GRID_COLUMNS) {
      problems.push(`${place}: columns ${gridData.x} to ${gridData.x + gridData.w} of a grid of ${GRID_COLUMNS}`);
    }
    for (const other of panels.slice(n + 1)) {
      if (other.panelIndex === panelIndex) problems.push(`${place}: stands there twice`);
      else if (overlap(gridData, other.gridData)) problems.push(`${place}: overlaps panel "${other.panelIndex}"`);
    }
  });
  return problems;
}

type Cells = Panel['gridData'];

function overlap(one: Cells, other: Cells): boolean {
  return one.x < other.x + other.w && other.x < one.x + one.w && one.y < other.y + other.h && other.y < one.y + one.h;
}

/** @param fieldsOf the fields behind a reference's name; undefined when that problem is told elsewhere */
export function controlProblems(
  controls: Readonly<Record<string, ControlPanel>>,
  fieldsOf: (referenceName: string) => Fields | undefined,
): string[] {
  const problems: string[] = [];
  const orders = Object.values(controls).map(({ order }) => order);
  if (orders.sort((a, b) => a - b).some((order, i) => order !== i))
    problems.push(`controls are numbered ${orders.join(', ')}`);
  for (const [id, { explicitInput }] of Object.entries(controls)) {
    if (explicitInput.id !== id) problems.push(`control "${id}": explicitInput.id is "${explicitInput.id}"`);
    const fields = fieldsOf(controlReference(id));
    const problem = fields === undefined ? undefined : fieldProblem(fields, explicitInput.fieldName, 'term');
    if (problem !== undefined) problems.push(`control "${id}": ${problem}`);
  }
  return problems;
}
