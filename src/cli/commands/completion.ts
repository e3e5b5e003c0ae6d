import { type Context, UsageError } from "../context.js";

/** What can be completed. */
export interface Vocabulary {
  /** Command names. */
  readonly commands: readonly string[];
  /** Long options. */
  readonly options: readonly string[];
}

const KEY_COMMANDS = ["get", "set", "rm", "ls", "watch"];

const SCRIPTS: Readonly<Record<string, (words: Vocabulary) => string>> = {
  bash: ({ commands, options }) => `_pvbus() {
  local word="\${COMP_WORDS[COMP_CWORD]}" command="\${COMP_WORDS[1]}"
  COMPREPLY=()
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "${options.join(" ")}" -- "$word"))
  elif [[ $COMP_CWORD -eq 1 ]]; then
    COMPREPLY=($(compgen -W "${commands.join(" ")}" -- "$word"))
  elif [[ " ${KEY_COMMANDS.join(" ")} " == *" $command "* ]]; then
    local IFS=$'\\n'
    COMPREPLY=($(compgen -W "$(pvbus ls --timeout 1 2>/dev/null | cut -d= -f1)" -- "$word"))
  fi
}
complete -F _pvbus pvbus
`,
  zsh: ({ commands, options }) => `#compdef pvbus
_pvbus() {
  if [[ $words[CURRENT] == -* ]]; then
    compadd -- ${options.join(" ")}
  elif (( CURRENT == 2 )); then
    compadd -- ${commands.join(" ")}
  elif [[ " ${KEY_COMMANDS.join(" ")} " == *" $words[2] "* ]]; then
    compadd -- "\${(@f)$(pvbus ls --timeout 1 2>/dev/null | cut -d= -f1)}"
  fi
}
compdef _pvbus pvbus
`,
  fish: ({ commands, options }) =>
    [
      "complete -c pvbus -f",
      `complete -c pvbus -n __fish_use_subcommand -a "${commands.join(" ")}"`,
      ...options.map((option) => `complete -c pvbus -l ${option.slice(2)}`),
      `complete -c pvbus -n "__fish_seen_subcommand_from ${KEY_COMMANDS.join(" ")}" -a "(pvbus ls --timeout 1 2>/dev/null | cut -d= -f1)"`,
      "",
    ].join("\n"),
};

/** `pvbus completion SHELL`: the script to source. */
export async function completionCommand(context: Context, shell: string, words: Vocabulary): Promise<number> {
  const script = Object.hasOwn(SCRIPTS, shell) ? SCRIPTS[shell] : undefined;
  if (script === undefined)
    throw new UsageError(`no completion for ${shell}; there is one for: ${Object.keys(SCRIPTS).join(", ")}`);
  context.stdout.write(script(words));
  return 0;
}
