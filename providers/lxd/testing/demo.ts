import { join } from "node:path";
import type { DemoRun } from "../../../src/contract/demo.js";
import { LxdSimulator } from "./simulator.js";

/** The round trip with a simulated guest API of Incus. */
export async function lxdRoundTrip({ directory, open, signal, tell, change }: DemoRun): Promise<void> {
  await using lxd = await LxdSimulator.listen({
    path: join(directory, "incus", "sock"),
    keys: { "user.role": "web" },
  });
  tell("host", "has set incus config set c1 user.role=web");

  await using guest = await open({ channel: `unix:${lxd.path}` });
  const { vmName, other } = await guest.facts({ signal });
  tell("guest", `is the ${other?.["instanceType"]} ${vmName}`);
  tell("guest", `reads user.role: "${await guest.read("user.role", { signal })}"`);

  const { key, value } = await change(guest, "user", () => lxd.set("user.role", "db"));
  tell("guest", `its watch sees ${key} become "${value}"`);

  lxd.set("user.role", undefined);
  tell("host", "unsets user.role");
  tell("guest", `reads user.role: ${(await guest.read("user.role", { signal })) ?? "no such key"}`);
}
