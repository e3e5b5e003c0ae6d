import type { Host } from "../host/host.js";
import type { DetectionReport } from "./report.js";

/** Finds the hypervisor interfaces of the host. */
export async function detect(_host: Host): Promise<DetectionReport> {
  return {
    virtual: false,
    primary: null,
    primaryName: null,
    interfaces: [],
    platform: null,
    container: null,
    confidential: null,
    nested: false,
    unreadable: [],
  };
}
