import type { Host } from "../../../src/base/host/host.js";
import { FreebsdIpService } from "./freebsd-ip-service.js";
import { LinuxIpService } from "./linux-ip-service.js";
import type { IpService } from "./services.js";

/** Returns the IP service of a host. @param directory for the files of settings, on the machine; default: the usual one */
export function createIpService(host: Host, directory?: string): IpService {
  return host.platform === "freebsd"
    ? new FreebsdIpService(host, { directory })
    : new LinuxIpService(host, { directory });
}
