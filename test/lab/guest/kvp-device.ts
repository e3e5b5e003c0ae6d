/** A process that is Linux's KVP driver and the host behind it: `/dev/vmbus/hv_kvp`, asked over its parent's channel. */
import { type HostResult, KvpDriver } from "../../../providers/hyperv/testing/kvp-device/driver.js";
import { CuseServer } from "./cuse.js";

/** What the parent sends: a message for the agent, in base64. */
export interface KvpQuestion {
  readonly message: string;
}

/** What the parent gets. */
export type KvpEvent =
  | { readonly event: "ready" }
  | { readonly event: "registered" }
  | { readonly event: "reply"; readonly reply: string }
  | { readonly event: "refused"; readonly why: string };

const tell = (event: KvpEvent): void => void process.send?.(event);
const driver = new KvpDriver();
const server = new CuseServer("vmbus!hv_kvp", driver);
driver.onReadable = () => server.notify();
driver.onRegistered = () => tell({ event: "registered" });
process.on("message", ({ message }: KvpQuestion) => {
  driver.request(Buffer.from(message, "base64"), (result: HostResult) =>
    tell(
      "reply" in result
        ? { event: "reply", reply: result.reply.toString("base64") }
        : { event: "refused", why: result.why },
    ),
  );
});
await server.start();
tell({ event: "ready" });
