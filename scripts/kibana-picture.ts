// The picture of Kibana's dashboard in the docs. In: the saved objects of its file. Out: SVG text. Everything in it is read
// from the objects as they are imported.
import { type ControlPanel, GRID_COLUMNS, type Panel, type SavedObject } from '../src/kibana/check.ts';
import { gridPicture } from './grid-picture.ts';

type Attributes = Record<string, string>;

export function kibanaPicture(objects: readonly SavedObject[]): string {
  const dashboard = objects.find(({ type }) => type === 'dashboard')!;
  const attributes = dashboard.attributes as Attributes & { controlGroupInput: Attributes };
  const panels = JSON.parse(attributes.panelsJSON!) as Panel[];
  const controls = JSON.parse(attributes.controlGroupInput.panelsJSON!) as Record<
    string,
    ControlPanel & { explicitInput: { title: string } }
  >;
  return gridPicture({
    title: attributes.title!,
    controls: [
      `Time: ${attributes.timeFrom} to ${attributes.timeTo}`,
      ...Object.values(controls).map(({ explicitInput }) => explicitInput.title),
    ],
    columns: GRID_COLUMNS,
    panels: panels.map(({ panelIndex, panelRefName, gridData: { x, y, w, h } }) => {
      const { id } = dashboard.references.find(({ name }) => name === `${panelIndex}:${panelRefName}`)!;
      const shown = objects.find((object) => object.id === id && object.type !== 'index-pattern')!;
      return { title: shown.attributes.title as string, note: shown.attributes.description as string, x, y, w, h };
    }),
  });
}
