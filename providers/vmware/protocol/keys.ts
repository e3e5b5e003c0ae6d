import { pvbusError } from "../../../src/base/errors.js";

/** Longest message from the guest (GUESTMSG_MAX_IN_SIZE, open-vm-tools lib/include/guest_msg_def.h). */
export const MAX_REQUEST_BYTES = 65_536;
/** Longest reply that is taken; hosts send about a mebibyte at most. */
export const MAX_REPLY_BYTES = 8 * 1024 * 1024;

/** Longest guestinfo key; the host's own limit is not documented. */
export const MAX_KEY_BYTES = 255;
/**
 * Longest guestinfo value that every key takes: a whole command less `info-set `, the longest key, the space behind it, and
 * the NUL that some hosts count.
 */
export const MAX_VALUE_BYTES = MAX_REQUEST_BYTES - "info-set ".length - MAX_KEY_BYTES - 2;

/** Bytes of a whole command for OpenBSD's driver, its NUL included (OpenBSD sys/dev/pv/vmt.c). */
export const VMT_RPC_BUFLEN = 4096;
/** Longest value that every key takes there. */
export const OPENBSD_VALUE_BYTES = VMT_RPC_BUFLEN - "info-set ".length - MAX_KEY_BYTES - 2;

/** Longest key of a DataSet (Broadcom Guest SDK, "In-Guest Communication Limits"). */
export const DATASET_KEY_BYTES = 4096;
/** Longest value of a DataSet. */
export const DATASET_VALUE_BYTES = 1024 * 1024;

/** Longest value of the namespace database that VMware's own tool sends. */
export const NAMESPACE_VALUE_BYTES = 16 * 1024;

/** Every guestinfo key begins so, in any case. */
export const KEY_PREFIX = "guestinfo.";

/**
 * Checks a guestinfo key. There is no quoting: a space in a key would make the rest of it the value, a NUL would end it, and
 * the host keeps keys in a text file of its own.
 * @throws PvbusError `ERR_KEY_INVALID`, `ERR_KEY_TOO_LONG`
 */
export function checkKey(key: string): void {
  if (Buffer.byteLength(key) > MAX_KEY_BYTES)
    throw pvbusError("ERR_KEY_TOO_LONG", `the key has more than ${MAX_KEY_BYTES} bytes; shorten it`);
  if (key.slice(0, KEY_PREFIX.length).toLowerCase() !== KEY_PREFIX || key.length === KEY_PREFIX.length)
    throw pvbusError("ERR_KEY_INVALID", `keys of VMware begin with ${KEY_PREFIX} and a name behind it`);
  if (!/^[\x21-\x7e]+$/.test(key) || /[="#\\]/.test(key))
    throw pvbusError(
      "ERR_KEY_INVALID",
      'a guestinfo key holds printable ASCII characters but no space, = " # \\; choose another name',
    );
}

/**
 * Keys that programs agree on: the only ones that a look at guestinfo can find, since the host does not list. Owners:
 * cloud-init, Ignition, Afterburn, Talos, VMware's tools, OpenBSD's vmt.
 */
export const WELL_KNOWN_KEYS: readonly string[] = [
  "guestinfo.metadata",
  "guestinfo.metadata.encoding",
  "guestinfo.userdata",
  "guestinfo.userdata.encoding",
  "guestinfo.vendordata",
  "guestinfo.vendordata.encoding",
  "guestinfo.ovfEnv",
  "guestinfo.hostname",
  "guestinfo.ip",
  "guestinfo.local-ipv4",
  "guestinfo.local-ipv6",
  "guestinfo.cloudinit.updates.supported",
  "guestinfo.cloudinit.updates.enabled",
  "guestinfo.ignition.config.data",
  "guestinfo.ignition.config.data.encoding",
  "guestinfo.afterburn.initrd.network-kargs",
  "guestinfo.coreos.config.data",
  "guestinfo.coreos.config.data.encoding",
  "guestinfo.coreos.config.url",
  "guestinfo.talos.config",
  "guestinfo.vmtools.description",
  "guestinfo.vmtools.versionString",
  "guestinfo.vmtools.versionNumber",
  "guestinfo.vmtools.buildNumber",
  "guestinfo.vmtools.containerinfo",
  "guestinfo.appInfo",
];

/** Returns the well-known keys that begin with a text, whatever its case: hosts do not tell cases apart. */
export function wellKnownBelow(prefix: string): readonly string[] {
  const wanted = prefix.toLowerCase();
  return WELL_KNOWN_KEYS.filter((key) => key.toLowerCase().startsWith(wanted));
}
