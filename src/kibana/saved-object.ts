// What Kibana's import takes: saved objects, one JSON text per line. In: type, id, attributes, references. Out: objects with
// the versions that every Kibana from 8.9 on takes; the same input gives the same bytes.

/** No version at all makes Kibana run every old migration, which fail; one above the server's own is refused with 422. */
export const CORE_MIGRATION_VERSION = '8.8.0';
export const TYPE_MIGRATION_VERSIONS = {
  'index-pattern': '8.0.0',
  lens: '8.9.0',
  search: '8.0.0',
  dashboard: '8.9.0',
} as const;
export type SavedObjectType = keyof typeof TYPE_MIGRATION_VERSIONS;

export interface Reference {
  readonly type: SavedObjectType;
  readonly id: string;
  /** What the referring attributes call it. */
  readonly name: string;
}

export interface SavedObject {
  readonly type: SavedObjectType;
  readonly id: string;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly references: readonly Reference[];
  readonly managed: false;
  readonly coreMigrationVersion: string;
  readonly typeMigrationVersion: string;
}

export function savedObject(
  type: SavedObjectType,
  id: string,
  attributes: Readonly<Record<string, unknown>>,
  references: readonly Reference[] = [],
): SavedObject {
  return {
    type,
    id,
    attributes,
    references,
    managed: false,
    coreMigrationVersion: CORE_MIGRATION_VERSION,
    typeMigrationVersion: TYPE_MIGRATION_VERSIONS[type],
  };
}

/** The content of an .ndjson file. */
export function toNdjson(objects: readonly SavedObject[]): string {
  return objects.map((object) => `${JSON.stringify(object)}\n`).join('');
}
