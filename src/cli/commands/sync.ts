import type { Command } from "../../contract/command.js";
import type { Context } from "../io/context.js";
import { NAMESPACE } from "../io/namespace.js";
import { TRUST_HOST } from "../io/trust.js";

/**
 * `pvbus sync [PREFIX]`, `pvbus sync -n NS [NAME ...]`: keeps a file or a directory as the store has it, and runs a program after
 * each change, until a signal or the time limit ends it.
 */
export const sync: Command<Context> = {
  name: "sync",
  args: ["[prefix|name...]"],
  description: "keep keys in a file or a directory, and run a program on changes",
  options: [
    NAMESPACE,
    { name: "prefix", value: "P", description: "the prefix, where it begins with a dash" },
    {
      name: "env",
      value: "FILE",
      description: "keep a file of NAME=value lines (systemd's EnvironmentFile=)",
    },
    { name: "dir", value: "DIR", description: "keep a directory of one file per key" },
    { name: "once", description: "do it one time and end" },
    TRUST_HOST,
  ],
  program: true,
  interruptible: true,
  load: async () => (await import("./sync-action.js")).syncAction,
};
