import type { Host } from "../../../src/host/host.js";
import { FreebsdIpService } from "./freebsd-ip-service.js";
import { LinuxIpService } from "./linux-ip-service.js";
import type { IpService } from "./services.js";

/** Gives the IP service of a host. */
export function createIpService(host: Host): IpService {
  return host.platform === "freebsd" ? new FreebsdIpService(host) : new LinuxIpService(host);
}
