import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { PvInterface } from "../../bus/interface.js";
import { type Context, UsageError } from "../context.js";
import { heading } from "../output.js";
import { printDetection } from "./detect.js";

/** `pvbus demo`: what this machine is, then the whole round trip on an embedded simulator. */
export async function demoCommand(context: Context): Promise<number> {
  const { type = "Hyper-V" } = context.options;
  if (!["hyper-v", "hyperv"].includes(type.toLowerCase()))
    throw new UsageError(`there is no simulator for ${type}; there is one for: Hyper-V`);
  const paint = heading(context.stdout, context.env);
  const bus = await context.open({ signal: context.signal });
  printDetection(context.stdout, bus, paint);
  await bus.close();

  const sysroot = mkdtempSync(join(tmpdir(), "pvbus-demo-"));
  try {
    await roundTrip(context, sysroot, paint);
  } finally {
    rmSync(sysroot, { recursive: true, force: true });
  }
  return 0;
}

async function roundTrip(context: Context, sysroot: string, paint: (text: string) => string): Promise<void> {
  const { HypervHostSimulator } = await import("../../testing/hyperv-host.js");
  const say = (text: string): void => void context.stdout.write(`  ${text}\n`);
  context.stdout.write(`\n${paint("Round trip with a simulated Hyper-V host")} (pool files in ${sysroot})\n`);
  await using host = await HypervHostSimulator.create({ sysroot });
  await host.setParameters({ VirtualMachineName: "web-01", HostName: "HV-HOST-01" });
  await host.addKvpItems([{ name: "role", data: "web" }]);
  say('host:  tells facts about the machine and adds role = "web"');

  await using bus = await context.open({
    sysroot,
    interfaces: [{ type: "Hyper-V" }],
    signal: context.signal,
  });
  const hv = bus.primary as PvInterface;
  for await (const { key, value } of hv.list()) say(`guest: lists ${key} = "${value}"`);
  say(`guest: reads External/role: "${await hv.read("External/role")}"`);

  await hv.write("Guest/build", "1.2.3");
  say('guest: writes Guest/build = "1.2.3"');
  for (const { name, data } of await host.guestItems()) say(`host:  sees ${name} = "${data}"`);

  let armed: () => void = () => undefined;
  const ready = new Promise<void>((resolve) => {
    armed = resolve;
  });
  const change = hv.watch("External", { ready: armed, signal: context.signal, timeoutMs: 10_000 }).next();
  await ready;
  await host.modifyKvpItems([{ name: "role", data: "db" }]);
  const { value: seen } = await change;
  say(`guest: its watch sees ${seen?.key} become "${seen?.value}"`);

  say(`guest: deletes Guest/build: ${await hv.delete("Guest/build")}`);
  say(`host:  sees ${(await host.guestItems()).length} pairs of the guest`);
}
