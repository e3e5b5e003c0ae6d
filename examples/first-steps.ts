/**
 * Reads what the host said and tells it something, in any guest that has a store.
 * On a laptop: PVBUS_SYSROOT=DIR with a copy of a guest's pool directory in it.
 */
import { openPvbus } from "pvbus";

await using bus = await openPvbus();
const store = bus.primary;
if (store?.capabilities.read !== true) {
  console.log("no hypervisor store here");
} else {
  const { vmName = "unknown" } = await store.facts();
  console.log(`this is ${vmName} on ${store.type}`);
  await store.write("Guest/agent-version", "1.2.3");
  for await (const { key, value } of store.list("External/")) console.log(`${key} = ${value}`);
}
