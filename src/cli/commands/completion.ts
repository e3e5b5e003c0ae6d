import { ownEntry } from "../../base/own.js";
import type { Command } from "../../contract/command.js";
import type { Context } from "../io/context.js";

/** `pvbus completion SHELL`: the script to source. */
export const completion: Command<Context> = {
  name: "completion",
  args: ["<shell>"],
  description: "print a completion script for bash, zsh or fish",
  load: async () => {
    const { SCRIPTS } = await import("./completion-scripts.js");
    return async (context, [shell = ""]) => {
      const script = ownEntry(SCRIPTS, shell);
      if (script === undefined)
        throw context.usage(
          `no completion for ${shell}; there is one for: ${Object.keys(SCRIPTS).join(", ")}`,
        );
      context.write(script(context.vocabulary));
      return 0;
    };
  },
};
