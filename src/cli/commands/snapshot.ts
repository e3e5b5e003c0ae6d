import type { Command } from "../../contract/command.js";
import type { Context } from "../io/context.js";

/** `pvbus snapshot`: all facts of this machine as one JSON document that `pvbus detect --snapshot` takes. */
export const snapshot: Command<Context> = {
  name: "snapshot",
  args: [],
  description: "record all facts of this machine as one JSON document",
  options: [
    {
      name: "identifiers",
      description: "keep all that was read: serial numbers, UUIDs, names, boot messages",
    },
  ],
  load: async () => {
    const { captureSnapshot } = await import("../../snapshot.js");
    return async ({ options: { sysroot }, writeJson }, _args, { identifiers }) => {
      writeJson(await captureSnapshot({ sysroot, includeIdentifiers: identifiers === true }));
      return 0;
    };
  },
};
