// TEMPORARY, replaced by the branch kvpip.
import type { IpService } from "./services.js";
import { KvpStatus, KvpStatusError } from "./status.js";
export function createIpService(_host: unknown): IpService {
  const refuse = (): never => {
    throw new KvpStatusError(KvpStatus.fail, "not there yet");
  };
  return { getIpInfo: async () => refuse(), setIpInfo: async () => refuse() };
}
