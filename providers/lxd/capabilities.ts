import type { Capabilities } from "../../src/contract/capabilities.js";

/** What a guest can do with LXD's and Incus' keys. Both keep text alone: what is no UTF-8 is replaced on the way in. */
export const CAPABILITIES: Capabilities = Object.freeze({
  read: true,
  write: false,
  delete: false,
  list: true,
  watch: true,
});
