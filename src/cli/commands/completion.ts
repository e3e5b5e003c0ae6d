import { ownEntry } from "../../base/own.js";
import type { OptionEntry } from "../commands.js";
import { type Context, UsageError } from "../io/context.js";

/** What can be completed. */
export interface Vocabulary {
  /** Command names. */
  readonly commands: readonly string[];
  /** All options. */
  readonly options: readonly OptionEntry[];
}

/** Commands whose first argument is a key. */
const KEY_COMMANDS = ["get", "set", "rm", "ls", "watch", "chmod"];
/** Options that say which store, to be handed on when keys are looked up. */
const STORE_OPTIONS = ["sysroot", "interface", "type", "channel", "option"];
/** One key a line. What follows the first `=` is the value: `=` within a key is printed as an escape. */
const LIST = "pvbus ls --timeout 1 2>/dev/null | cut -d= -f1";

const SCRIPTS: Readonly<Record<string, (words: Vocabulary) => string>> = {
  bash: bashScript,
  zsh: ({ commands, options }) => `#compdef pvbus
_pvbus() {
  if [[ $words[CURRENT] == -* ]]; then
    compadd -- ${options.map(({ name }) => `--${name}`).join(" ")}
  elif (( CURRENT == 2 )); then
    compadd -- ${commands.join(" ")}
  elif [[ $words[2] == completion ]]; then
    compadd -- ${Object.keys(SCRIPTS).join(" ")}
  elif [[ " ${KEY_COMMANDS.join(" ")} " == *" $words[2] "* ]]; then
    compadd -- "\${(@f)$(${LIST})}"
  fi
}
compdef _pvbus pvbus
`,
  fish: ({ commands, options }) =>
    [
      "complete -c pvbus -f",
      `complete -c pvbus -n __fish_use_subcommand -a "${commands.join(" ")}"`,
      ...options.map(
        ({ name, short, value }) =>
          `complete -c pvbus -l ${name}${short === undefined ? "" : ` -s ${short}`}${value === undefined ? "" : " -r"}`,
      ),
      `complete -c pvbus -n "__fish_seen_subcommand_from completion" -a "${Object.keys(SCRIPTS).join(" ")}"`,
      `complete -c pvbus -n "__fish_seen_subcommand_from ${KEY_COMMANDS.join(" ")}" -a "(${LIST})"`,
      "",
    ].join("\n"),
};

/**
 * Keys come from the host, so no shell may take them for code: `compgen -W` would run the `$(…)` in them. They are
 * compared and quoted one by one instead; those that the listing had to escape cannot be typed and are left out.
 */
function bashScript({ commands, options }: Vocabulary): string {
  const flags = (wanted: readonly OptionEntry[]): string =>
    wanted
      .flatMap(({ name, short }) => (short === undefined ? [`--${name}`] : [`--${name}`, `-${short}`]))
      .join("|");
  const valued = options.filter(({ value }) => value !== undefined);
  const store = valued.filter(({ name }) => STORE_OPTIONS.includes(name));
  const others = valued.filter(({ name }) => !STORE_OPTIONS.includes(name));
  return `_pvbus() {
  local word="\${COMP_WORDS[COMP_CWORD]}" before="" command="" count=0 i line quoted value
  local -a through=()
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    before="\${COMP_WORDS[i]}"
    case "$before" in
      ${flags(store)})
        [[ "\${COMP_WORDS[i+1]}" == "=" ]] && ((i++))
        ((++i < COMP_CWORD)) || continue
        # bash takes unix:PATH and NAME=VALUE for three words
        value="\${COMP_WORDS[i]}"
        while [[ "\${COMP_WORDS[i+1]}" == [:=] ]] && ((i + 2 < COMP_CWORD)); do
          value+="\${COMP_WORDS[i+1]}\${COMP_WORDS[i+2]}"
          ((i += 2))
        done
        through+=("$before" "$value") before="" ;;
      ${flags(others)})
        [[ "\${COMP_WORDS[i+1]}" == "=" ]] && ((i++))
        ((++i < COMP_CWORD)) && before="" ;;
      -*) ;;
      *) ((count++)) || command="$before" ;;
    esac
  done
  [[ "$word" == "=" ]] && word=""
  case "$before" in
    --sysroot) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
    --snapshot) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    ${flags(valued.filter(({ name }) => name !== "sysroot" && name !== "snapshot"))}) return ;;
  esac
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "${options.map(({ name }) => `--${name}`).join(" ")}" -- "$word"))
  elif ((count == 0)); then
    COMPREPLY=($(compgen -W "${commands.join(" ")}" -- "$word"))
  elif [[ $count -eq 1 && $command == completion ]]; then
    COMPREPLY=($(compgen -W "${Object.keys(SCRIPTS).join(" ")}" -- "$word"))
  elif [[ $count -eq 1 && " ${KEY_COMMANDS.join(" ")} " == *" $command "* ]]; then
    while IFS= read -r line; do
      [[ $line == *\\\\* || $line != "\${word//\\\\/}"* ]] && continue
      printf -v quoted %q "$line"
      COMPREPLY+=("$quoted")
    done < <(pvbus ls "\${through[@]}" --timeout 1 2>/dev/null | cut -d= -f1)
  fi
}
complete -F _pvbus pvbus
`;
}

/** `pvbus completion SHELL`: the script to source. */
export async function completionCommand(context: Context, shell: string, words: Vocabulary): Promise<number> {
  const script = ownEntry(SCRIPTS, shell);
  if (script === undefined)
    throw new UsageError(`no completion for ${shell}; there is one for: ${Object.keys(SCRIPTS).join(", ")}`);
  context.stdout.write(script(words));
  return 0;
}
