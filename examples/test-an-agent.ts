/** Tests a KVP daemon without Hyper-V: Linux's device and the host behind it, simulated. Needs root and /dev/fuse. */
import { KvpDeviceSimulator } from "pvbus/testing";

const [program = "/usr/sbin/hv_kvp_daemon", ...args] = process.argv.slice(2);
await using simulator = await KvpDeviceSimulator.start();
simulator.run(program, args.length > 0 ? args : ["-n"]);
await simulator.waitForRegistration(0, { timeoutMs: 10_000 });
console.log(`set: 0x${(await simulator.set(0, "role", "db")).toString(16)}`);
for (const { key, value } of await simulator.list(0)) console.log(`${key}=${value}`);
