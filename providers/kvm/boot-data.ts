import type { BootData, BootDataKind, BootDataPlace } from "../../src/contract/boot-data.js";
import { itemName, qualifiedKey } from "./protocol/keys.js";

function ignition(namespace: string): BootDataPlace {
  const key = qualifiedKey("fwcfg", itemName(namespace, "config"));
  return { kind: "ignition", store: "fw_cfg", key, consumer: "Ignition", form: { is: "plain" } };
}

/** cloud-init's SmartOS source: which keys are base64 other keys say. */
function smartos(kind: BootDataKind, name: string): BootDataPlace {
  const [key, listKey, allKey, ownKey] = [name, "base64_keys", "base64_all", `b64-${name}`].map((each) =>
    qualifiedKey("meta", each),
  ) as [string, string, string, string];
  const form = { is: "smartos", name, listKey, allKey, ownKey } as const;
  return { kind, store: "mdata", key, consumer: "cloud-init", form };
}

const UUID = qualifiedKey("meta", "sdc:uuid");
const CREDENTIALS = "io.systemd.credential";

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
          "local-hostname": [qualifiedKey("meta", "hostname"), qualifiedKey("meta", "sdc:hostname")],
          "public-keys": [qualifiedKey("meta", "root_authorized_keys")],
        },
      },
    },
    {
      kind: "meta-data",
      store: "SMBIOS",
      key: qualifiedKey("smbios", "system/serial-number"),
      consumer: "cloud-init",
      form: { is: "nocloud-serial" },
    },
    ignition("com.coreos"),
    ignition("org.flatcar-linux"),
  ],
  credentials: [
    { source: "fw_cfg", prefix: qualifiedKey("fwcfg", itemName(`${CREDENTIALS}s`, "")) },
    {
      source: "SMBIOS",
      prefix: qualifiedKey("smbios", `oem/${CREDENTIALS}:`),
      brokenPrefix: qualifiedKey("smbios", `oem/${CREDENTIALS}.binary:`),
    },
  ],
};
