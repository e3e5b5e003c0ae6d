import type { BootData, BootDataKind, BootDataPlace } from "../../src/contract/boot-data.js";

function ignition(namespace: string): BootDataPlace {
  const key = `fwcfg/opt/${namespace}/config`;
  return { kind: "ignition", store: "fw_cfg", key, consumer: "Ignition", form: { is: "plain" } };
}

/** cloud-init's SmartOS source: which keys are base64 other keys say. */
function smartos(kind: BootDataKind, name: string): BootDataPlace {
  const form = {
    is: "smartos",
    name,
    listKey: "meta/base64_keys",
    allKey: "meta/base64_all",
    ownKey: `meta/b64-${name}`,
  } as const;
  return { kind, store: "mdata", key: `meta/${name}`, consumer: "cloud-init", form };
}

const UUID = "meta/sdc:uuid";

/** Keys of the metadata channel that cloud-init's SmartOS source reads, Ignition's items of fw_cfg, NoCloud's serial number. */
export const BOOT_DATA: BootData = {
  places: [
    smartos("user-data", "cloud-init:user-data"),
    smartos("user-data", "user-data"),
    smartos("vendor-data", "sdc:vendor-data"),
    {
      kind: "meta-data",
      store: "mdata",
      key: UUID,
      consumer: "cloud-init",
      form: {
        is: "fields",
        fields: {
          "instance-id": [UUID],
          "local-hostname": ["meta/hostname", "meta/sdc:hostname"],
          "public-keys": ["meta/root_authorized_keys"],
        },
      },
    },
    {
      kind: "network-config",
      store: "mdata",
      key: "meta/sdc:nics",
      consumer: "cloud-init",
      form: {
        is: "smartos-network",
        resolversKey: "meta/sdc:resolvers",
        routesKey: "meta/sdc:routes",
        domainKey: "meta/sdc:dns_domain",
      },
    },
    {
      kind: "meta-data",
      store: "SMBIOS",
      key: "smbios/system/serial-number",
      consumer: "cloud-init",
      form: { is: "nocloud-serial" },
    },
    ignition("com.coreos"),
    ignition("org.flatcar-linux"),
  ],
  credentials: [
    { source: "fw_cfg", prefix: "fwcfg/opt/io.systemd.credentials/" },
    {
      source: "SMBIOS",
      prefix: "smbios/oem/io.systemd.credential:",
      brokenPrefix: "smbios/oem/io.systemd.credential.binary:",
    },
  ],
};
