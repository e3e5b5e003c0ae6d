import { XenProvider } from "../../providers/xen/index.js";
import { nodeHost } from "../../src/base/host/node-host.js";
import { Call } from "../../src/index.js";
import { openWindowsDevice } from "../../src/native/windows/device.js";

/*
 * Runs on Windows, or in wine as xeniface.test.ts has it done; prints what it saw as JSON. Wine has no XENIFACE device, but
 * one of the HID interface, whose driver refuses the control code.
 */

const HID = "4D1E55B2-F16F-11CF-88CB-001111000030";
const READ = 0x22_2000;

async function outcome(asked: Promise<unknown>): Promise<string> {
  return asked.then(
    () => "done",
    (error: unknown) => (error as Error).message,
  );
}

const device = openWindowsDevice(HID);
const control = device && (await outcome(device.control(READ, Buffer.from("data\0"), 4098)));
await device?.close();
const closed = device && (await outcome(device.control(READ, Buffer.from("data\0"), 4098)));
const opening = await outcome(new XenProvider(nodeHost()).open({}, new Call()));
console.log(JSON.stringify({ hid: device !== undefined, control, closed, opening }));
