import type { CommandGroup } from "../../contract/command.js";
import type { Context } from "../io/context.js";
import { TRUST_HOST } from "../io/trust.js";

/** `pvbus creds`: systemd's credentials from every source, for systems without systemd too. */
export const creds: CommandGroup<Context> = {
  name: "creds",
  description: "systemd credentials from every source: list, get, export",
  options: [TRUST_HOST],
  actions: [
    {
      name: "list",
      args: [],
      description: "list the credentials, where each is from and what it shadows; never their values",
      load: async () => (await import("./creds-actions.js")).listAction,
    },
    {
      name: "get",
      args: ["<name>"],
      description: "print a credential's bytes as they are",
      load: async () => (await import("./creds-actions.js")).getAction,
    },
    {
      name: "export",
      args: ["<dir>"],
      description: "write each to a file of a directory in memory",
      options: [{ name: "on-disk", description: "write to a disk too, where they stay" }],
      load: async () => (await import("./creds-actions.js")).exportAction,
    },
  ],
};
