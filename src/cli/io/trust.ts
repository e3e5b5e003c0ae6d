import type { CommandOption } from "../../contract/command.js";

/** The option by which the host's word counts in a confidential machine. */
export const TRUST_HOST: CommandOption = {
  name: "trust-host",
  description: "take the host's word in a confidential machine too",
};

/** Returns the tools' option for the command's. */
export function trustOf(own: Readonly<Record<string, unknown>>): { readonly trustHost: boolean } {
  return { trustHost: own["trust-host"] === true };
}
