import { join } from "node:path";
import type { DemoRun } from "../../../src/contract/demo.js";

/** The round trip with a simulated VMware host, whose guest RPC speaks over a UNIX socket in place of vsock. */
export async function vmwareRoundTrip({ directory, open, signal, tell, change }: DemoRun): Promise<void> {
  const { VmxHost } = await import("./host.js");
  const { VmxListener } = await import("./listener.js");
  const host = new VmxHost({ variables: { "guestinfo.hostname": "web-01", "guestinfo.role": "web" } });
  const seen = (key: string): string => Buffer.from(host.get(key) ?? []).toString();
  await using listener = new VmxListener(host);
  const path = join(directory, "vmx.sock");
  await listener.listen(path);
  tell("host", 'tells the machine\'s name and sets guestinfo.role = "web"');

  await using guest = await open({ channel: `unix:${path}`, options: { pollMs: 20 } });
  const { other = {} } = await guest.facts({ signal });
  tell("guest", `is ${other["guestinfo.hostname"]}`);
  tell("guest", `reads guestinfo.role: "${await guest.read("guestinfo.role", { signal })}"`);

  await guest.write("guestinfo.build", "1.2.3", { signal });
  tell("guest", 'writes guestinfo.build = "1.2.3"');
  tell("host", `sees guestinfo.build = "${seen("guestinfo.build")}"`);

  const { key, value } = await change(guest, "guestinfo.role", () => host.set("guestinfo.role", "db"));
  tell("guest", `its watch sees ${key} become "${value}"`);

  await guest.write("guestinfo.build", "", { signal });
  tell("guest", "empties guestinfo.build, since this host removes nothing");
  tell("host", `sees guestinfo.build = "${seen("guestinfo.build")}"`);
}
