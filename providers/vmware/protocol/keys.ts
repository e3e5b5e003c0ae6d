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
