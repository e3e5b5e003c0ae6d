/** Waits until the host's administrator sets External/role, for at most the seconds given as the argument. */
import { openPvbus } from "pvbus";

const seconds = Number(process.argv[2] ?? 60);
await using bus = await openPvbus();
const store = bus.primary;
if (store?.capabilities.watch === true) {
  const ready = (): void => console.log("waiting for External/role");
  for await (const { key, value } of store.watch("External/role", { timeoutMs: seconds * 1000, ready })) {
    if (key !== "External/role" || value === undefined) continue;
    console.log(`role is ${value}`);
    break;
  }
}
