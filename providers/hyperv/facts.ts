import type { Call } from "../../src/base/flow/call.js";
import { putEntry } from "../../src/base/own.js";
import type { MachineFacts } from "../../src/contract/store.js";
import { isMissing, type Pool } from "./transport/pool.js";

/** Resolves with what the host put into Guest/Parameters; nothing where the host said nothing. */
export async function machineFacts(parameters: Pool, call: Call): Promise<MachineFacts> {
  const all: Record<string, string> = {};
  try {
    for await (const { key, value } of parameters.list("", call)) {
      putEntry(all, key, Buffer.from(value).toString("utf8"));
    }
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
  const { VirtualMachineName, VirtualMachineId, HostName, ...rest } = all;
  const hostName = HostName ?? rest["PhysicalHostNameFullyQualified"] ?? rest["PhysicalHostName"];
  return {
    ...(VirtualMachineName === undefined ? {} : { vmName: VirtualMachineName }),
    ...(VirtualMachineId === undefined ? {} : { vmId: VirtualMachineId }),
    ...(hostName === undefined ? {} : { hostName }),
    ...(Object.keys(rest).length === 0 ? {} : { other: rest }),
  };
}
