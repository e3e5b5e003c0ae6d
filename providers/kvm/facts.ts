import { putEntry } from "../../src/base/own.js";
import type { MachineFacts } from "../../src/contract/store.js";

/** Where each fact is looked for, the strongest key first; `sdc:` are the names of SmartOS. */
const VM_NAME = ["meta/sdc:alias", "meta/sdc:hostname"];
const VM_ID = ["meta/sdc:uuid", "smbios/system/uuid"];
const OTHER: Readonly<Record<string, string>> = {
  manufacturer: "smbios/system/manufacturer",
  product: "smbios/system/product-name",
  version: "smbios/system/version",
  family: "smbios/system/family",
  sku: "smbios/system/sku-number",
  serial: "smbios/system/serial-number",
  assetTag: "smbios/chassis/asset-tag",
};

/** Puts together what the host tells about the machine. @param read returns a qualified key's value; undefined where it tells nothing */
export async function machineFacts(
  read: (key: string) => Promise<Uint8Array | undefined>,
): Promise<MachineFacts> {
  const text = async (keys: readonly string[]): Promise<string | undefined> => {
    for (const key of keys) {
      const value = Buffer.from((await read(key)) ?? []).toString("utf8");
      if (value !== "") return value;
    }
    return undefined;
  };
  const vmName = await text(VM_NAME);
  const vmId = await text(VM_ID);
  const other: Record<string, string> = {};
  for (const [name, key] of Object.entries(OTHER)) {
    const value = await text([key]);
    if (value !== undefined) putEntry(other, name, value);
  }
  return {
    ...(vmName === undefined ? {} : { vmName }),
    ...(vmId === undefined ? {} : { vmId }),
    ...(Object.keys(other).length === 0 ? {} : { other }),
  };
}
