import type { BootData, BootDataKind, BootDataPlace } from "../../src/contract/boot-data.js";

const OVF = "guestinfo.ovfEnv";
const METADATA = "guestinfo.metadata";
const IGNITION = "guestinfo.ignition.config.data";
const encodingOf = (key: string): string => `${key}.encoding`;

function cloudInit(kind: BootDataKind, key: string): BootDataPlace {
  const form = { is: "named", encodingKey: encodingOf(key), reader: "cloud-init" } as const;
  return { kind, store: "guestinfo", key, consumer: "cloud-init", form };
}

function ovf(kind: BootDataKind): BootDataPlace {
  const form = { is: "ovf-property", property: kind } as const;
  return { kind, store: "ovfEnv", key: OVF, consumer: "cloud-init", form };
}

/** guestinfo's keys of cloud-init (and, on Windows, cloudbase-init) and Ignition; then what an OVF environment says. */
export const BOOT_DATA: BootData = {
  places: [
    cloudInit("user-data", "guestinfo.userdata"),
    cloudInit("meta-data", METADATA),
    cloudInit("vendor-data", "guestinfo.vendordata"),
    {
      kind: "network-config",
      store: "guestinfo",
      key: METADATA,
      consumer: "cloud-init",
      form: { is: "network-of-metadata", encodingKey: encodingOf(METADATA) },
    },
    {
      kind: "ignition",
      store: "guestinfo",
      key: IGNITION,
      consumer: "Ignition",
      form: { is: "named", encodingKey: encodingOf(IGNITION), reader: "ignition" },
    },
    ovf("user-data"),
    {
      kind: "meta-data",
      store: "ovfEnv",
      key: OVF,
      consumer: "cloud-init",
      form: {
        is: "ovf-metadata",
        properties: ["instance-id", "hostname", "local-hostname", "public-keys", "seedfrom"],
      },
    },
    ovf("network-config"),
    {
      kind: "ignition",
      store: "ovfEnv",
      key: OVF,
      consumer: "Ignition",
      form: { is: "ovf-property", property: IGNITION, encodingProperty: encodingOf(IGNITION) },
    },
  ],
};
