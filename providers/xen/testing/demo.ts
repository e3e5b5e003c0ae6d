import { join } from "node:path";
import type { DemoRun } from "../../../src/contract/demo.js";
import { XenStoreSimulator } from "./simulator.js";

const DOMAIN = 7;
const HOME = `/local/domain/${DOMAIN}`;

/** The round trip with a simulated XenStore daemon. */
export async function xenRoundTrip({ directory, open, signal, tell, change }: DemoRun): Promise<void> {
  await using xen = await XenStoreSimulator.listen({ domain: DOMAIN, path: join(directory, "socket") });
  xen.createDomain(DOMAIN, {
    name: "web-01",
    uuid: "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d",
    vmData: { role: "web" },
  });
  tell("host", 'creates the domain web-01 with vm-data/role = "web"');

  await using guest = await open({ channel: `unix:${xen.path}` });
  const { vmName, vmId } = await guest.facts({ signal });
  tell("guest", `is ${vmName}, ${vmId}`);
  tell("guest", `reads vm-data/role: "${await guest.read("vm-data/role", { signal })}"`);

  await guest.write("data/build", "1.2.3", { signal });
  tell("guest", 'writes data/build = "1.2.3"');
  tell("host", `sees ${HOME}/data/build = "${xen.read(`${HOME}/data/build`)}"`);

  const { key, value } = await change(guest, "vm-data", () => xen.write(`${HOME}/vm-data/role`, "db"));
  tell("guest", `its watch sees ${key} become "${value}"`);

  tell("guest", `deletes data/build: ${await guest.delete("data/build", { signal })}`);
  tell("host", `sees data/build ${xen.read(`${HOME}/data/build`) === undefined ? "gone" : "still there"}`);
}
