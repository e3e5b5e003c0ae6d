/** Where a hypervisor's side listens for the messages of sd_notify(3), as the credential `vmm.notify_socket` names it. */
export type NotifyAddress =
  | {
      readonly kind: "vsock";
      /** The only type of socket; undefined: whichever the listener has. */
      readonly type: "stream" | "seqpacket" | "datagram" | undefined;
      readonly cid: number;
      readonly port: number;
    }
  | { readonly kind: "unix"; readonly path: string };

const VSOCK = /^vsock(-stream|-seqpacket|-dgram)?:(\d{1,10}):(\d{1,10})$/;
const MAX = 0xffff_ffff;

/** Reads an address: `vsock:CID:PORT`, `vsock-stream:…`, `vsock-seqpacket:…`, `vsock-dgram:…`, or the path of a UNIX socket; undefined for anything else. */
export function parseNotifyAddress(text: string): NotifyAddress | undefined {
  if (/^[/@]./.test(text)) return { kind: "unix", path: text };
  const [, type, cid, port] = VSOCK.exec(text) ?? [];
  if (cid === undefined || port === undefined || Number(cid) > MAX || Number(port) > MAX) return undefined;
  return {
    kind: "vsock",
    type: typeOf(type),
    cid: Number(cid),
    port: Number(port),
  };
}

function typeOf(suffix: string | undefined): Extract<NotifyAddress, { kind: "vsock" }>["type"] {
  if (suffix === "-stream") return "stream";
  if (suffix === "-seqpacket") return "seqpacket";
  return suffix === "-dgram" ? "datagram" : undefined;
}

/** Returns the message: lines, the last one without its end. A failure is told by an errno, as services tell theirs. */
export function notifyMessage({
  ready,
  status,
}: {
  readonly ready: boolean;
  readonly status?: string | undefined;
}): string {
  if (ready) return `READY=1\nSTATUS=${status ?? "Ready."}`;
  return `STATUS=${status ?? "Failed."}\nERRNO=1`;
}
