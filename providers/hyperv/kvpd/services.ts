import type { Call } from "../../../src/base/flow/call.js";
import type { KvpIpInfo } from "../protocol/messages.js";

/** The Auto pool: values that the daemon computes. */
export interface AutoValues {
  /** Begins what takes longer, such as asking the name service; resolves when that is done. */
  prepare?(signal: AbortSignal): Promise<void>;
  /** Takes the text that the driver sent at the registration. */
  setIntegrationServicesVersion(version: string): void;
  /** Returns the pair at a position of the host's enumeration; undefined past the end. Never waits. */
  entry(position: number): { readonly key: string; readonly value: string } | undefined;
}

/** IP settings of the guest's adapters. */
export interface IpService {
  /** Resolves with the settings of the adapter with the request's MAC address. @throws KvpStatusError */
  getIpInfo(request: KvpIpInfo, call: Call): Promise<KvpIpInfo>;
  /** Applies settings to the adapter with the request's GUID. @throws KvpStatusError */
  setIpInfo(request: KvpIpInfo, call: Call): Promise<void>;
}
