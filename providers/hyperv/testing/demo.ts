import type { DemoRun } from "../../../src/contract/demo.js";

/** The round trip over Hyper-V's pool files. */
export async function hypervRoundTrip({ directory, open, signal, tell, change }: DemoRun): Promise<void> {
  const { HypervHostSimulator } = await import("./host.js");
  await using host = await HypervHostSimulator.create({ sysroot: directory });
  await host.setParameters({ VirtualMachineName: "web-01", HostName: "HV-HOST-01" });
  await host.addKvpItems([{ name: "role", data: "web" }]);
  tell("host", 'tells facts about the machine and adds role = "web"');

  await using hv = await open({ sysroot: directory });
  for await (const { key, value } of hv.list("", { signal })) tell("guest", `lists ${key} = "${value}"`);
  tell("guest", `reads External/role: "${await hv.read("External/role", { signal })}"`);

  await hv.write("Guest/build", "1.2.3", { signal });
  tell("guest", 'writes Guest/build = "1.2.3"');
  for (const { name, data } of await host.guestItems()) tell("host", `sees ${name} = "${data}"`);

  const { key, value } = await change(hv, "External", () =>
    host.modifyKvpItems([{ name: "role", data: "db" }]),
  );
  tell("guest", `its watch sees ${key} become "${value}"`);

  tell("guest", `deletes Guest/build: ${await hv.delete("Guest/build", { signal })}`);
  tell("host", `sees ${(await host.guestItems()).length} pairs of the guest`);
}
