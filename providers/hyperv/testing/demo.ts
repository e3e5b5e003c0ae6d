import type { PvInterface } from "../../../src/bus/interface/interface.js";
import { nextChange, type RoundTrip } from "../../../src/cli/commands/demo/steps.js";

/** The round trip over Hyper-V's pool files. */
export const hypervRoundTrip: RoundTrip = async ({ open, signal }, sysroot, tell) => {
  const { HypervHostSimulator } = await import("./host.js");
  await using host = await HypervHostSimulator.create({ sysroot });
  await host.setParameters({ VirtualMachineName: "web-01", HostName: "HV-HOST-01" });
  await host.addKvpItems([{ name: "role", data: "web" }]);
  tell("host", 'tells facts about the machine and adds role = "web"');

  await using bus = await open({ sysroot, interfaces: [{ type: "Hyper-V" }], signal });
  const hv = bus.primary as PvInterface;
  for await (const { key, value } of hv.list("", { signal })) tell("guest", `lists ${key} = "${value}"`);
  tell("guest", `reads External/role: "${await hv.read("External/role", { signal })}"`);

  await hv.write("Guest/build", "1.2.3", { signal });
  tell("guest", 'writes Guest/build = "1.2.3"');
  for (const { name, data } of await host.guestItems()) tell("host", `sees ${name} = "${data}"`);

  const { key, value } = await nextChange(hv, "External", signal, () =>
    host.modifyKvpItems([{ name: "role", data: "db" }]),
  );
  tell("guest", `its watch sees ${key} become "${value}"`);

  tell("guest", `deletes Guest/build: ${await hv.delete("Guest/build", { signal })}`);
  tell("host", `sees ${(await host.guestItems()).length} pairs of the guest`);
};
