import { pvbusError } from "../../../../src/base/errors.js";
import type { LaunchChannel, LaunchDescription } from "./description.js";
import {
  type LaunchAbilities,
  MAX_ARGUMENT_BYTES,
  MAX_OEM_STRINGS,
  planLaunch,
  type SizeOf,
} from "./plan.js";

/**
 * What its options carry: lists are cut at commas, quotes and brackets must match and stay in the value, blanks at the ends go. Its
 * fw_cfg is a feature of the build that distributed ones lack.
 */
export const CLOUD_HYPERVISOR: LaunchAbilities = { items: false, unfit: /[,"[\]\0]|^\s|\s$/ };

/**
 * Returns Cloud Hypervisor's arguments for a machine.
 * @throws PvbusError `ERR_KEY_TOO_LONG`, `ERR_KEY_INVALID`, `ERR_VALUE_TOO_LONG`, `ERR_VALUE_INVALID`, `ERR_NO_SPACE`, `ERR_NOT_SUPPORTED`
 */
export function cloudHypervisorArguments(description: LaunchDescription, sizeOf: SizeOf): string[] {
  const { strings } = planLaunch(description, CLOUD_HYPERVISOR, sizeOf);
  if (strings.length > MAX_OEM_STRINGS) {
    const message = `${strings.length} keys are too many OEM strings, ${MAX_OEM_STRINGS} are taken: use the channel`;
    throw pvbusError("ERR_NO_SPACE", message);
  }
  const out: string[] = [];
  if (strings.length > 0) out.push("--platform", `oem_strings=[${strings.join(",")}]`);
  if (description.channel !== undefined) out.push("--vsock", vsockOf(description.channel));
  if (Buffer.byteLength(out[1] ?? "") > MAX_ARGUMENT_BYTES) {
    const message = `the OEM strings make an argument over ${MAX_ARGUMENT_BYTES} bytes: use the channel`;
    throw pvbusError("ERR_NO_SPACE", message);
  }
  return out;
}

function vsockOf({ endpoint, cid }: LaunchChannel): string {
  const mapping = endpoint.kind === "listen" ? endpoint.vsock : undefined;
  if (mapping === undefined) {
    const message = "Cloud Hypervisor's channel is a vsock; write vsock:PATH:PORT for the channel's endpoint";
    throw pvbusError("ERR_NOT_SUPPORTED", message);
  }
  if (CLOUD_HYPERVISOR.unfit.test(mapping.path)) {
    const message = `its options do not carry the path ${mapping.path}; leave out commas, quotes and brackets`;
    throw pvbusError("ERR_VALUE_INVALID", message);
  }
  return `cid=${cid},socket=${mapping.path}`;
}
