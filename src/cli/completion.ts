// `logpipe completion bash | zsh | fish`: what the Tab key offers, as a script for the shell. In: the command line as it is declared
// (commander's tree of commands). Out: a script without any call of logpipe in it, so that Tab is quick. Guarantee: nothing is listed by
// hand, so nothing can be missing; every text stands quoted.
import { type Argument, type Command, Help, type Option } from 'commander';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/** @param program the root of the tree */
export function completionScript(shell: Shell, program: Command): string {
  const name = program.name();
  const places = placesOf(program);
  switch (shell) {
    case 'bash':
      return bashScript(name, places);
    case 'zsh':
      return zshScript(name, places);
    case 'fish':
      return fishScript(name, places);
  }
}

// ---- the tree of commands, as a shell needs it ----

/** What stands behind an option, or as an argument. */
type Value =
  | { readonly kind: 'none' | 'file' | 'folder' | 'text' }
  | { readonly kind: 'choices'; readonly choices: readonly string[] };

interface Switch {
  readonly long: string;
  readonly short: string | undefined;
  readonly description: string;
  readonly value: Value;
}

/** One place in the command line: a command with all that may follow it. */
interface Place {
  /** "rules check"; empty at the beginning. */
  readonly path: string;
  readonly commands: readonly { readonly name: string; readonly description: string }[];
  readonly switches: readonly Switch[];
  readonly argument: Value;
}

function placesOf(program: Command): Place[] {
  const help = new Help();
  const places: Place[] = [];
  const visit = (command: Command, path: string) => {
    const commands = help.visibleCommands(command);
    places.push({
      path,
      commands: commands.map((inner) => ({
        name: inner.name(),
        description: firstSentence(help.subcommandDescription(inner)),
      })),
      switches: help.visibleOptions(command).flatMap((option) => (option.long ? [switchOf(option)] : [])),
      argument: argumentOf(command.registeredArguments[0]),
    });
    // `help` is there without having a place of its own.
    for (const inner of command.commands) visit(inner, path === '' ? inner.name() : `${path} ${inner.name()}`);
  };
  visit(program, '');
  return places;
}

function switchOf(option: Option): Switch {
  const { long, short, argChoices, required, optional, flags } = option;
  const value: Value =
    argChoices !== undefined
      ? { kind: 'choices', choices: argChoices }
      : required || optional
        ? { kind: kindOf(flags) }
        : { kind: 'none' };
  return { long: long!, short, description: firstSentence(option.description), value };
}

function argumentOf(argument: Argument | undefined): Value {
  if (argument === undefined) return { kind: 'none' };
  if (argument.argChoices !== undefined) return { kind: 'choices', choices: argument.argChoices };
  return { kind: kindOf(`<${argument.name()}>`) };
}

/** By what the placeholder is called. */
function kindOf(flags: string): 'file' | 'folder' | 'text' {
  const placeholder = flags.split(/[<[]/, 2)[1]?.split(/[>\]]/, 1)[0] ?? '';
  if (/^files?\b/.test(placeholder)) return 'file';
  return /^(?:dir|folder)\b/.test(placeholder) ? 'folder' : 'text';
}

function firstSentence(text: string): string {
  const line = text.split('\n', 1)[0] ?? '';
  for (let at = line.indexOf('. '); at !== -1; at = line.indexOf('. ', at + 1)) {
    // Not behind an abbreviation of a letter or two.
    if (/^\S{3}$/.test(line.slice(Math.max(0, at - 3), at))) return line.slice(0, at);
  }
  return line.replace(/\.$/, '');
}

/** For any shell: nothing in it has a meaning. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function fishQuoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}

/** Alternatives of a `case` in bash and zsh. */
function alternatives(texts: readonly string[]): string {
  return texts.map(quoted).join(' | ');
}

/** `path|--option` of every option with such a value. */
function keysOf(places: readonly Place[], test: (value: Value) => boolean): string[] {
  return places.flatMap(({ path, switches }) =>
    switches
      .filter(({ value }) => test(value))
      .flatMap(({ long, short }) => [long, short ?? []].flat().map((flag) => `${path}|${flag}`)),
  );
}

const takesValue = ({ kind }: Value) => kind !== 'none';

function pathsOf(places: readonly Place[]): string[] {
  return places.map(({ path }) => path).filter((path) => path !== '');
}

/** Options by the choices they have. */
function choicesOf(places: readonly Place[]): [keys: string[], choices: readonly string[]][] {
  const groups = new Map<string, readonly string[]>();
  for (const { switches } of places) {
    for (const { value } of switches) if (value.kind === 'choices') groups.set(value.choices.join(' '), value.choices);
  }
  return [...groups].map(([text, choices]) => [
    keysOf(places, (value) => value.kind === 'choices' && value.choices.join(' ') === text),
    choices,
  ]);
}

function argumentsOf(places: readonly Place[], kind: Value['kind']): Place[] {
  return places.filter(({ argument }) => argument.kind === kind);
}

/** Where the line stands: bash and zsh do it in the same words. `word` is the next word, `at` the command so far. */
function walkLines(places: readonly Place[]): string {
  return `    if [[ $skip == 1 ]]; then skip=0; continue; fi
    case "$at|$word" in
      ${alternatives(keysOf(places, takesValue))}) skip=1; continue ;;
    esac
    case "\${at:+$at }$word" in
      ${alternatives(pathsOf(places))}) at="\${at:+$at }$word" ;;
    esac`;
}

// ---- bash, 3.2 and later ----

function bashScript(name: string, places: readonly Place[]): string {
  const fn = `_${name.replace(/\W/g, '_')}`;
  const cases = (kinds: Value['kind'], body: string) => {
    const keys = keysOf(places, ({ kind }) => kind === kinds);
    return keys.length === 0 ? [] : [`    ${alternatives(keys)}) ${body}; return ;;`];
  };
  const values = [
    ...choicesOf(places).map(
      ([keys, choices]) => `    ${alternatives(keys)}) ${fn}_words ${quoted(choices.join(' '))}; return ;;`,
    ),
    ...cases('file', `${fn}_paths -f`),
    ...cases('folder', `${fn}_paths -d`),
    ...cases('text', ':'),
  ];
  const words = places.flatMap(({ path, commands, switches, argument }) => {
    const flags = switches.flatMap(({ long, short }) => [long, short ?? []].flat()).join(' ');
    const others =
      argument.kind === 'file'
        ? `${fn}_paths -f`
        : argument.kind === 'folder'
          ? `${fn}_paths -d`
          : `${fn}_words ${quoted(argument.kind === 'choices' ? argument.choices.join(' ') : commands.map((one) => one.name).join(' '))}`;
    return [`    ${quoted(path)}) if [[ $cur == -* ]]; then ${fn}_words ${quoted(flags)}; else ${others}; fi ;;`];
  });
  return `# Completion of ${name} for bash: source <(${name} completion bash), or keep it in ~/.local/share/bash-completion/completions/${name}
${fn}_words() {
  local line IFS=$' \\t\\n'
  while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -W "$1" -- "$cur")
}
${fn}_paths() {
  local line
  type compopt >/dev/null 2>&1 && compopt -o filenames 2>/dev/null
  while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen "$1" -- "$cur")
}
${fn}() {
  local cur prev at='' word skip=0 i
  COMPREPLY=()
  cur=\${COMP_WORDS[COMP_CWORD]}
  prev=\${COMP_WORDS[COMP_CWORD-1]}
  # bash takes --option=value for three words.
  if [[ $cur == = ]]; then cur=''
  elif [[ $prev == = ]]; then prev=\${COMP_WORDS[COMP_CWORD-2]}; fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    if [[ $word == = ]]; then skip=1; continue; fi
${walkLines(places)}
  done
  case "$at|$prev" in
${values.join('\n')}
  esac
  case "$at" in
${words.join('\n')}
  esac
}
complete -F ${fn} ${name}
`;
}

// ---- zsh ----

function zshScript(name: string, places: readonly Place[]): string {
  const fn = `_${name.replace(/\W/g, '_')}`;
  const described = (items: readonly (readonly [name: string, description: string])[]) =>
    items.map(([one, description]) => quoted(`${one.replaceAll(':', '\\:')}:${description}`)).join(' ');
  const cases = (kinds: Value['kind'], body: string) => {
    const keys = keysOf(places, ({ kind }) => kind === kinds);
    return keys.length === 0 ? [] : [`    ${alternatives(keys)}) ${body}; return ;;`];
  };
  const values = [
    ...choicesOf(places).map(
      ([keys, choices]) => `    ${alternatives(keys)}) compadd -- ${choices.map(quoted).join(' ')}; return ;;`,
    ),
    ...cases('file', '_files'),
    ...cases('folder', '_files -/'),
    ...cases('text', "_message 'a value'"),
  ];
  const words = places.map(({ path, commands, switches, argument }) => {
    const flags = described(
      switches.flatMap(({ long, short, description }) =>
        [long, short ?? []].flat().map((flag) => [flag, description] as const),
      ),
    );
    const others =
      argument.kind === 'file'
        ? '_files'
        : argument.kind === 'folder'
          ? '_files -/'
          : argument.kind === 'choices'
            ? `compadd -- ${argument.choices.map(quoted).join(' ')}`
            : commands.length === 0
              ? ':'
              : `items=(${described(commands.map((one) => [one.name, one.description] as const))}); _describe 'command' items`;
    return `    ${quoted(path)}) if [[ $cur == -* ]]; then items=(${flags}); _describe -o 'option' items; else ${others}; fi ;;`;
  });
  return `#compdef ${name}
# Completion of ${name} for zsh: source <(${name} completion zsh), or keep it as _${name} in a folder of $fpath
${fn}() {
  local cur prev at='' word skip=0 i
  local -a items
  cur=\${words[CURRENT]}
  prev=\${words[CURRENT-1]}
  if [[ $cur == --*=* ]]; then prev=\${cur%%=*}; cur=\${cur#*=}; compset -P '*='; fi
  for ((i = 2; i < CURRENT; i++)); do
    word=\${words[i]}
${walkLines(places)}
  done
  case "$at|$prev" in
${values.join('\n')}
  esac
  case "$at" in
${words.join('\n')}
  esac
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then ${fn} "$@"; else compdef ${fn} ${name}; fi
`;
}

// ---- fish ----

function fishScript(name: string, places: readonly Place[]): string {
  const at = `__${name.replace(/\W/g, '_')}_at`;
  const words = (texts: readonly string[]) => texts.map(fishQuoted).join(' ');
  const lines = places.flatMap(({ path, commands, switches, argument }) => {
    const head = `complete -c ${name} -n ${fishQuoted(`${at} ${fishQuoted(path)}`)}`;
    const value = (of: Value): string =>
      ({
        none: '',
        text: ' -x',
        file: ' -r -F',
        folder: " -x -a '(__fish_complete_directories)'",
        choices: of.kind === 'choices' ? ` -x -a ${fishQuoted(of.choices.join(' '))}` : '',
      })[of.kind];
    return [
      ...commands.map((one) => `${head} -a ${fishQuoted(one.name)} -d ${fishQuoted(one.description)}`),
      ...switches.map(({ long, short, description, value: of }) => {
        const flags = `-l ${long.slice(2)}${short === undefined ? '' : ` -s ${short.slice(1)}`}`;
        return `${head} ${flags}${value(of)} -d ${fishQuoted(description)}`;
      }),
      ...(argument.kind === 'choices' ? [`${head} -a ${fishQuoted(argument.choices.join(' '))}`] : []),
    ];
  });
  const files = argumentsOf(places, 'file').map(
    ({ path }) => `complete -c ${name} -n ${fishQuoted(`${at} ${fishQuoted(path)}`)} -F`,
  );
  return `# Completion of ${name} for fish: ${name} completion fish | source, or keep it as ~/.config/fish/completions/${name}.fish
function ${at}
  set -l place ''
  set -l skip 0
  set -l tokens (commandline -opc)
  for word in $tokens[2..-1]
    if test $skip = 1
      set skip 0
      continue
    end
    if contains -- "$place|$word" ${words(keysOf(places, takesValue))}
      set skip 1
      continue
    end
    set -l next (string trim -- "$place $word")
    if contains -- "$next" ${words(pathsOf(places))}
      set place "$next"
    end
  end
  test "$place" = "$argv[1]"
end
complete -c ${name} -f
${[...lines, ...files].join('\n')}
`;
}
