import type { BootData, BootDataKind, BootDataPlace } from "../../src/contract/boot-data.js";

function place(kind: BootDataKind, key: string): BootDataPlace {
  return { kind, store: "lxd", key, consumer: "cloud-init", form: { is: "plain" } };
}

/** The keys that cloud-init's LXD source reads; those of `cloud-init.` are stronger than the older ones of `user.`. */
export const BOOT_DATA: BootData = {
  places: [
    ...(["user-data", "vendor-data", "network-config"] as const).flatMap((kind) => [
      place(kind, `cloud-init.${kind}`),
      place(kind, `user.${kind}`),
    ]),
    place("meta-data", "meta-data"),
    place("meta-data", "user.meta-data"),
  ],
};
