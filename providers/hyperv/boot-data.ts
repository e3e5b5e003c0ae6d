import type { BootData } from "../../src/contract/boot-data.js";

/** Pairs come one after the other when a daemon has registered; between two of them the host lets no more than that pass. */
const SETTLE_MS = 3_000;

/** Ignition's pairs of pool 0, as libhvee on the host writes them. */
export const BOOT_DATA: BootData = {
  places: [
    {
      kind: "ignition",
      store: "External",
      key: "External/ignition.config",
      consumer: "Ignition",
      form: { is: "parts" },
    },
  ],
  settleMs: SETTLE_MS,
};
