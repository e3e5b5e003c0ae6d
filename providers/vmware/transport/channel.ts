import type { Call } from "../../../src/base/flow/call.js";
import { parseChannel } from "../../../src/base/host/channel.js";
import { type HostFiles, hostFiles } from "../../../src/base/host/files.js";
import type { Host } from "../../../src/base/host/host.js";
import { UnixStream } from "../../../src/base/host/unix-stream.js";
import type { HostStream, StreamEvents, StreamSource } from "./stream.js";
import { type Privilege, VsockSource } from "./vsock.js";

const CHANNELS = { of: "VMware", kinds: { vsock: true, unix: true } } as const;
const ADVICE = { default: "see that the simulated host listens there, and that you may use its socket" };

/**
 * Returns the address of a channel that the caller named: `vsock:CID:PORT` or `unix:PATH`, the path below the host's sysroot.
 * @throws PvbusError `ERR_NOT_SUPPORTED` for anything else; the machine-code port is never opened by a name
 */
export function namedSource(name: string, host: Host, privilege: Privilege): StreamSource {
  const channel = parseChannel(name, CHANNELS, host);
  return channel.kind === "vsock"
    ? new VsockSource(channel.cid, channel.port, privilege)
    : new UnixSource(name, channel.path, host.files);
}

/** A UNIX socket that speaks as the host does: a simulator's. */
export class UnixSource implements StreamSource {
  readonly name: string;
  readonly privileged = undefined;
  readonly #path: string;
  readonly #files: HostFiles;

  /**
   * @param path where the socket is on the machine
   * @param files the machine's; default: this one's
   */
  constructor(name: string, path: string, files = hostFiles(undefined)) {
    this.name = name;
    this.#path = path;
    this.#files = files;
  }

  connect(events: StreamEvents, call: Call): Promise<HostStream> {
    const hold = () => this.#files.holdSocket(this.#path);
    return UnixStream.connect(hold, { name: this.name, advice: ADVICE, ...events }, call);
  }
}
