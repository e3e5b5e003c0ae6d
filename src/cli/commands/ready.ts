import type { Bus } from "../../bus/bus.js";
import type { Command } from "../../contract/command.js";
import { type Context, withBus } from "../io/context.js";
import { visible } from "../io/output.js";

/** `pvbus ready`: tells the host by every signal that applies; a line for each. Exit 0 when one was taken. */
export const ready: Command<Context> = {
  name: "ready",
  args: [],
  description: "tell the host that this guest is up, or has failed",
  options: [
    { name: "status", value: "TEXT", description: "a line for people" },
    { name: "failed", description: "it has failed" },
  ],
  load: async () => (context, _args, own) => withBus(context, (bus) => tell(context, bus, own)),
};

async function tell(context: Context, bus: Bus, own: Readonly<Record<string, unknown>>): Promise<number> {
  const { tellReady } = await import("../../tools/ready.js");
  const status = own["status"] as string | undefined;
  const signals = await tellReady(bus, {
    ...context.call,
    interface: context.options.interface,
    type: context.options.type,
    ready: own["failed"] !== true,
    host: context.host(),
    ...(status === undefined ? {} : { status }),
  });
  if (context.json) context.writeJson(signals);
  else
    for (const { signal, sent, detail } of signals)
      context.write(`${visible(signal)}: ${sent ? "sent" : "not sent"}: ${visible(detail)}\n`);
  return signals.some(({ sent }) => sent) ? 0 : 1;
}
