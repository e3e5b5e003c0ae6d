/** Both sides of KVM's metadata channel in one process: the host sets a role, the guest follows it and reports back. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openPvbus } from "pvbus";
import { MetadataHost, openAdministration, parseEndpoint } from "pvbus/kvm-host";

const folder = mkdtempSync(join(tmpdir(), "pvbus-example-"));
try {
  const socket = join(folder, "web-1.sock");
  const directory = join(folder, "state");
  const guests = [{ name: "web-1", endpoints: [parseEndpoint(`unix:${socket}`)] }];
  await using _host = await MetadataHost.start({ directory, guests });
  await using keys = await openAdministration(directory);

  // In the guest; in a real machine the channel is found by itself.
  await using bus = await openPvbus({ interfaces: [{ type: "KVM", channel: `unix:${socket}` }] });
  const store = bus.byType("KVM");
  const ready = (): Promise<void> => keys.set("web-1", "role", Buffer.from("db"));
  for await (const { key, value } of store?.watch("meta/role", {
    timeoutMs: 10_000,
    ready: () => void ready(),
  }) ?? []) {
    console.log(`guest: ${key} is ${value}`);
    await store?.write("meta/status", "ready");
    break;
  }

  const status = await keys.get("web-1", "status");
  console.log(`host: web-1 is ${Buffer.from(status ?? "silent").toString()}`);
} finally {
  rmSync(folder, { recursive: true });
}
