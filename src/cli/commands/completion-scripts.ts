import type { CommandOption } from "../../contract/command.js";
import { GLOBALS, PROVIDER_OPTION } from "../grammar/globals.js";
import { type CommandWords, optionsOf, type Vocabulary } from "../grammar/vocabulary.js";

/** Commands whose first argument is a key. */
const KEY_COMMANDS = ["get", "set", "rm", "ls", "watch", "take", "sync", "chmod"];
/** Options that say which store, to be handed on when keys are looked up. */
const STORE_OPTIONS = ["sysroot", "interface", "type", "channel", "option", PROVIDER_OPTION];
/** Options whose values are files. */
const FILE_OPTIONS = ["snapshot", "env", "dir", PROVIDER_OPTION];

/** What makes the script of a shell. */
export const SCRIPTS: Readonly<Record<string, (words: Vocabulary) => string>> = {
  bash: bashScript,
  zsh: zshScript,
  fish: fishScript,
};

/** Returns a word that a shell takes as it is. */
function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

/** Returns what names the same providers when keys are looked up. */
function providersAgain({ providers }: Vocabulary): string {
  return providers.map((name) => ` --${PROVIDER_OPTION} ${quoted(name)}`).join("");
}

function names(of: readonly { readonly name: string }[]): string {
  return of.map(({ name }) => name).join(" ");
}

function longNames(of: readonly CommandOption[]): string {
  return [...new Set(of.map(({ name }) => `--${name}`))].join(" ");
}

/** Returns a command's words by its name, for commands that have some. */
function perCommand(
  commands: readonly CommandWords[],
  words: (command: CommandWords) => string,
): (readonly [name: string, words: string])[] {
  return commands.map((command) => [command.name, words(command)] as const).filter(([, each]) => each !== "");
}

/** What stands in the place of a command's first argument, but for keys. */
function firstArguments(commands: readonly CommandWords[]): (readonly [name: string, words: string])[] {
  return [
    ...perCommand(commands, ({ actions = [] }) => names(actions)),
    ["completion", Object.keys(SCRIPTS).join(" ")],
  ];
}

/**
 * Keys come from the host, so no shell may take them for code: `compgen -W` would run the `$(…)` in them. They are
 * compared and quoted one by one instead; those that the listing had to escape cannot be typed and are left out.
 */
function bashScript(vocabulary: Vocabulary): string {
  const { commands } = vocabulary;
  // A letter may be a switch of one command and take a value in another.
  const valued = (command: string, options: readonly CommandOption[]): string[] =>
    options
      .filter(({ value }) => value !== undefined)
      .flatMap(({ name, short }) => (short === undefined ? [`--${name}`] : [`--${name}`, `-${short}`]))
      .map((word) => `${command}:${word}`);
  const isStore = ({ name }: CommandOption): boolean => STORE_OPTIONS.includes(name);
  const store = valued("*", GLOBALS.filter(isStore));
  const others = [
    ...valued(
      "*",
      GLOBALS.filter((each) => !isStore(each)),
    ),
    ...commands.flatMap((command) => valued(command.name, optionsOf(command))),
  ];
  const own = perCommand(commands, (command) => longNames(optionsOf(command)));
  const files = FILE_OPTIONS.map((name) => `--${name}`).join("|");
  return `_pvbus() {
  local word="\${COMP_WORDS[COMP_CWORD]}" before="" command="" options="" count=0 i line quoted value
  local -a through=()
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    before="\${COMP_WORDS[i]}"
    case "$command:$before" in
      ${store.join("|")})
        [[ "\${COMP_WORDS[i+1]}" == "=" ]] && ((i++))
        ((++i < COMP_CWORD)) || continue
        # bash takes unix:PATH and NAME=VALUE for three words
        value="\${COMP_WORDS[i]}"
        while [[ "\${COMP_WORDS[i+1]}" == [:=] ]] && ((i + 2 < COMP_CWORD)); do
          value+="\${COMP_WORDS[i+1]}\${COMP_WORDS[i+2]}"
          ((i += 2))
        done
        through+=("$before" "$value") before="" ;;
      ${others.join("|")})
        [[ "\${COMP_WORDS[i+1]}" == "=" ]] && ((i++))
        ((++i < COMP_CWORD)) && before="" ;;
      *:-*) ;;
      *) ((count++)) || command="$before" ;;
    esac
  done
  [[ "$word" == "=" ]] && word=""
  case "$command:$before" in
    *:--sysroot) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
    *:${files.replaceAll("|", "|*:")}) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    ${[...store, ...others].join("|")}) return ;;
  esac
  if [[ $word == -* ]]; then
    options="${longNames(GLOBALS)}"
    case "$command" in
${own.map(([name, options]) => `      ${name}) options+=" ${options}" ;;\n`).join("")}    esac
    COMPREPLY=($(compgen -W "$options" -- "$word"))
  elif ((count == 0)); then
    COMPREPLY=($(compgen -W "${names(commands)}" -- "$word"))
  elif ((count == 1)); then
    case "$command" in
${firstArguments(commands)
  .map(([name, words]) => `      ${name}) COMPREPLY=($(compgen -W "${words}" -- "$word")) ;;\n`)
  .join("")}      ${KEY_COMMANDS.join("|")})
        while IFS= read -r line; do
          [[ $line == *\\\\* || $line != "\${word//\\\\/}"* ]] && continue
          printf -v quoted %q "$line"
          COMPREPLY+=("$quoted")
        done < <(${listing(vocabulary, ` "\${through[@]}"`)}) ;;
    esac
  fi
}
complete -F _pvbus pvbus
`;
}

/** Prints one key a line. What follows the first `=` is the value: `=` within a key is printed as an escape. */
function listing(vocabulary: Vocabulary, options = ""): string {
  return `pvbus ls${providersAgain(vocabulary)}${options} --timeout 1 2>/dev/null | cut -d= -f1`;
}

function zshScript(vocabulary: Vocabulary): string {
  const { commands } = vocabulary;
  const own = perCommand(commands, (command) => longNames(optionsOf(command)));
  return `#compdef pvbus
_pvbus() {
  if [[ $words[CURRENT] == -* ]]; then
    compadd -- ${longNames(GLOBALS)}
    case $words[2] in
${own.map(([name, options]) => `      ${name}) compadd -- ${options} ;;\n`).join("")}    esac
  elif (( CURRENT == 2 )); then
    compadd -- ${names(commands)}
  else
    case $words[2] in
${firstArguments(commands)
  .map(([name, words]) => `      ${name}) compadd -- ${words} ;;\n`)
  .join("")}      ${KEY_COMMANDS.join("|")}) compadd -- "\${(@f)$(${listing(vocabulary)})}" ;;
    esac
  fi
}
compdef _pvbus pvbus
`;
}

function fishScript(vocabulary: Vocabulary): string {
  const { commands } = vocabulary;
  const seen = (name: string): string => ` -n "__fish_seen_subcommand_from ${name}"`;
  const option = ({ name, short, value }: CommandOption, when: string): string =>
    `complete -c pvbus${when} -l ${name}${short === undefined ? "" : ` -s ${short}`}${value === undefined ? "" : " -r"}`;
  return [
    "complete -c pvbus -f",
    `complete -c pvbus -n __fish_use_subcommand -a "${names(commands)}"`,
    ...GLOBALS.map((each) => option(each, "")),
    ...commands.flatMap((command) => optionsOf(command).map((each) => option(each, seen(command.name)))),
    ...firstArguments(commands).map(([name, words]) => `complete -c pvbus${seen(name)} -a "${words}"`),
    `complete -c pvbus${seen(KEY_COMMANDS.join(" "))} -a "(${listing(vocabulary)})"`,
    "",
  ].join("\n");
}
