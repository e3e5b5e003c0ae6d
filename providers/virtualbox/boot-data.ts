import type { BootData } from "../../src/contract/boot-data.js";

/** Ignition's configuration, and the property that names its encoding. */
export const IGNITION_CONFIG = "/Ignition/Config";

/** Ignition's configuration. Nothing else reads its boot configuration from guest properties. */
export const BOOT_DATA: BootData = {
  places: [
    {
      kind: "ignition",
      store: "guestproperty",
      key: IGNITION_CONFIG,
      consumer: "Ignition",
      form: { is: "named", encodingKey: `${IGNITION_CONFIG}/Encoding`, reader: "ignition" },
    },
  ],
};
