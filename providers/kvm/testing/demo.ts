import { join } from "node:path";
import type { DemoRun } from "../../../src/contract/demo.js";

/** The round trip over KVM's metadata channel, on a UNIX socket. */
export async function kvmRoundTrip({ directory, open, signal, tell, change }: DemoRun): Promise<void> {
  const { KvmHostSimulator } = await import("./simulator.js");
  await using host = await KvmHostSimulator.listen(join(directory, "metadata.sock"));
  host.set("sdc:hostname", "web-01");
  host.set("role", "web");
  tell("host", 'serves facts about the machine and sets role = "web"');

  await using kvm = await open({ channel: host.channel });
  for await (const { key, value } of kvm.list("meta/", { signal }))
    tell("guest", `lists ${key} = "${value}"`);
  tell("guest", `reads role: "${await kvm.read("role", { signal })}"`);

  await kvm.write("meta/build", "1.2.3", { signal });
  tell("guest", 'writes meta/build = "1.2.3"');
  tell("host", `sees build = "${host.get("build")}"`);

  const { key, value } = await change(kvm, "meta/", () => host.set("role", "db"));
  tell("guest", `its watch sees ${key} become "${value}"`);

  tell("guest", `deletes meta/build: ${await kvm.delete("meta/build", { signal })}`);
  tell("host", `sees build ${host.get("build") === undefined ? "gone" : "still there"}`);
}
