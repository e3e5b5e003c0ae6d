import type { CommandOption } from "../../contract/command.js";
import type { ProviderManifest } from "../../contract/manifest.js";
import { GLOBALS } from "./globals.js";

/** How a command or an action is called; a group has actions in place of arguments. */
export interface CommandWords {
  /** Its name. */
  readonly name: string;
  /** What it does, in one line. */
  readonly description: string;
  /** Its arguments. */
  readonly args?: readonly string[];
  /** How it is called, for wrong arguments. */
  readonly usage?: string;
  /** Its own options. */
  readonly options?: readonly CommandOption[];
  /** All behind `--` is a program to run. */
  readonly program?: boolean;
  /** Its actions. */
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

/**
 * Checks that no option hides a global one, that none is there twice in a command, and that each takes a value in all commands or
 * in none.
 * @param ownerOf names whose command it is
 * @throws TypeError that names owner, command and option
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
      const { name, short, value } = option;
      const isGlobal = GLOBALS.some(
        (each) => each.name === name || (short !== undefined && each.short === short),
      );
      if (isGlobal) fail(command, name, "is a global one too, or has the letter of one");
      if ((valued.get(name) ?? value !== undefined) !== (value !== undefined))
        fail(command, name, "takes a value here and none elsewhere, or the other way round");
      valued.set(name, value !== undefined);
    }
    for (const { options = [] } of command.actions ?? [{}])
      for (const [at, { name, short }] of [...(command.options ?? []), ...options].entries())
        if (
          [...(command.options ?? []), ...options]
            .slice(at + 1)
            .some((other) => other.name === name || (short !== undefined && other.short === short))
        )
          fail(command, name, "is there twice");
  }
}
