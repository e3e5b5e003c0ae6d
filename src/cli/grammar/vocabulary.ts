import type { Command, CommandOption } from "../../contract/command.js";
import type { ProviderManifest } from "../../contract/manifest.js";
import { GLOBALS } from "./globals.js";

/** How a command or an action is called; a group has actions in place of arguments. */
export interface CommandWords
  extends Pick<Command, "name" | "description" | "usage" | "options" | "program">,
    Partial<Pick<Command, "args">> {
  readonly actions?: readonly CommandWords[];
}

/** All that can be said on the command line. */
export interface Vocabulary {
  /** The commands: of pvbus, then of the providers. */
  readonly commands: readonly CommandWords[];
  /** The providers, strangers among them. */
  readonly manifests: readonly ProviderManifest[];
  /** The modules that the user named, as they can be named again from any directory. */
  readonly providers: readonly string[];
}

/** Returns a command's options, those of its actions among them. */
export function optionsOf({ options = [], actions = [] }: CommandWords): readonly CommandOption[] {
  return [...options, ...actions.flatMap(optionsOf)];
}

function isSame({ name, short }: CommandOption, other: CommandOption): boolean {
  return other.name === name || (short !== undefined && other.short === short);
}

/**
 * Checks that no option hides a global one, that none is there twice in a command, and that each takes a value in all commands or
 * in none. @throws TypeError that names owner, command and option
 */
export function checkVocabulary(
  commands: readonly CommandWords[],
  ownerOf: (command: CommandWords) => string,
): void {
  const valued = new Map(GLOBALS.map(({ name, value }) => [name, value !== undefined]));
  const fail = (command: CommandWords, name: string, why: string): never => {
    throw new TypeError(`${ownerOf(command)}: the option --${name} of its command ${command.name} ${why}`);
  };
  for (const command of commands) {
    for (const option of optionsOf(command)) {
      const { name, value } = option;
      if (GLOBALS.some((each) => isSame(option, each)))
        fail(command, name, "is a global one too, or has the letter of one");
      if ((valued.get(name) ?? value !== undefined) !== (value !== undefined))
        fail(command, name, "takes a value here and none elsewhere, or the other way round");
      valued.set(name, value !== undefined);
    }
    for (const { options = [] } of command.actions ?? [{}]) {
      const all = [...(command.options ?? []), ...options];
      for (const [at, option] of all.entries())
        if (all.slice(at + 1).some((other) => isSame(option, other)))
          fail(command, option.name, "is there twice");
    }
  }
}
