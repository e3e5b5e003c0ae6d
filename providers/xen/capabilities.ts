import type { Capabilities } from "../../src/contract/capabilities.js";

/** What XenStore can do through a daemon's socket or a kernel's device. */
export const CAPABILITIES: Capabilities = Object.freeze({
  read: true,
  write: true,
  delete: true,
  list: true,
  watch: true,
  binary: true,
});

/** What OpenBSD's xen(4) can do through its key-value call, which takes text. */
export const OPENBSD_CAPABILITIES: Capabilities = Object.freeze({
  read: true,
  write: true,
  delete: false,
  list: true,
  watch: false,
});

/** What Windows' XENIFACE driver can do, which takes text too. */
export const XENIFACE_CAPABILITIES: Capabilities = Object.freeze({
  read: true,
  write: true,
  delete: true,
  list: true,
  watch: false,
});
