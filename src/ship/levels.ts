// Names of levels. In: a name as somebody wrote it, and the levels of a logger with their numbers (a lower one is more severe,
// as in Winston). Out: the name as the logger knows it.

export type Levels = Readonly<Record<string, number>>;

/** Levels for looking closely; a logger whose other levels have unusual names is not meant to send these. */
const FOR_DEBUGGING = /^(?:debug|trace|verbose|silly|all|fine|finer|finest)$/i;

/** The level of this name; without one, the only one that differs by capitals alone; else undefined. */
export function levelNamed(name: unknown, levels: Levels): string | undefined {
  if (typeof name !== 'string') return undefined;
  if (Object.hasOwn(levels, name)) return name;
  const alike = Object.keys(levels).filter((level) => level.toLowerCase() === name.toLowerCase());
  return alike.length === 1 ? alike[0] : undefined;
}

/** `info`; without it the least severe level that is not for debugging; without one the least severe. */
export function defaultLevel(levels: Levels): string {
  const rising = Object.keys(levels).sort((a, b) => levels[b]! - levels[a]!);
  return levelNamed('info', levels) ?? rising.find((level) => !FOR_DEBUGGING.test(level)) ?? rising[0]!;
}

export function mostSevere(levels: Levels): string {
  return Object.keys(levels).reduce((most, level) => (levels[level]! < levels[most]! ? level : most));
}
