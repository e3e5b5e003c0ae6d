import type { CommandGroup } from "../../contract/command.js";
import type { Context } from "../io/context.js";
import { TRUST_HOST } from "../io/trust.js";

const FROM = {
  name: "from",
  value: "STORE",
  description: "look at this store alone: a name as list shows it, an interface, a type",
};

/** `pvbus userdata`: boot configuration under the keys and in the encodings of whoever reads it by himself. */
export const userdata: CommandGroup<Context> = {
  name: "userdata",
  description: "boot configuration from the host: list, get, nocloud",
  options: [TRUST_HOST],
  actions: [
    {
      name: "list",
      args: [],
      description: "list all boot configuration that there is, where it is and how it is encoded",
      options: [FROM],
      load: async () => (await import("./userdata-actions.js")).listAction,
    },
    {
      name: "get",
      args: ["<kind>"],
      description: "print boot configuration: user-data, meta-data, vendor-data, network-config, ignition",
      options: [FROM, { name: "as-is", description: "as it is stored, whatever its encoding is said to be" }],
      load: async () => (await import("./userdata-actions.js")).getAction,
    },
    {
      name: "nocloud",
      args: ["<dir>"],
      description: "write a seed for cloud-init's NoCloud; never over one that is not ours",
      options: [
        FROM,
        { name: "wait", description: "wait until the host has given all; exit 0 without data too" },
      ],
      load: async () => (await import("./userdata-actions.js")).nocloudAction,
    },
  ],
};
