import { HostctlError } from "../../src/base/hostctl-error.js";
import type { PvbusDevice } from "../../src/cli/hostctl/devices.js";

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

/** OpenBSD's vmt(4) behind pvbus: RPCI replies, a missing key is EINVAL, a small buffer ERANGE. */
export function simulatedVmware(values: Map<string, string>): PvbusDevice {
  return {
    type: () => "VMware",
    read: async (key, valueLength) => {
      const value = values.get(text(key));
      if (value === undefined) throw new HostctlError("EINVAL");
      if (value.length + 3 > valueLength) throw new HostctlError("ERANGE");
      return Buffer.from(value);
    },
    write: async (key, value) => {
      values.set(text(key), text(value));
      return Buffer.alloc(0);
    },
  };
}

/** OpenBSD's xen(4) behind pvbus: an empty value lists the children, errors are the daemon's. */
export function simulatedXen(nodes: Map<string, string>, forbidden: string): PvbusDevice {
  return {
    type: () => "Xen",
    read: async (key) => {
      const path = text(key);
      const value = nodes.get(path);
      if (value === undefined) throw new HostctlError("ENOENT");
      if (value !== "") return Buffer.from(value);
      const children = [...nodes.keys()]
        .filter((each) => each.startsWith(`${path}/`))
        .map((each) => each.slice(path.length + 1));
      return Buffer.from(children.filter((name) => !name.includes("/")).join("\n"));
    },
    write: async (key, value) => {
      if (text(key).startsWith(forbidden)) throw new HostctlError("EACCES");
      nodes.set(text(key), text(value));
      return Buffer.alloc(0);
    },
  };
}
