import { hostFiles } from "../../src/base/host/files.js";
import type { Host } from "../../src/base/host/host.js";

/** Puts devices of this machine into one that a directory stands for, which by itself leads to none. @param devices where each one is */
export function withDevices(host: Host, devices: ReadonlyMap<string, string>): Host {
  const live = hostFiles(undefined);
  const { files } = host;
  return {
    ...host,
    files: {
      ...files,
      kind: (path) => (devices.has(path) ? "device" : files.kind(path)),
      open: (path, opening) => {
        const device = devices.get(path);
        return device === undefined ? files.open(path, opening) : live.open(device, opening);
      },
    },
  };
}
