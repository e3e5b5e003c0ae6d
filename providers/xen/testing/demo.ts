import { join } from "node:path";
import type { PvInterface } from "../../../src/bus/interface/interface.js";
import { nextChange, type RoundTrip } from "../../../src/cli/commands/demo/steps.js";
import { XenStoreSimulator } from "./simulator.js";

const DOMAIN = 7;
const HOME = `/local/domain/${DOMAIN}`;

/** The round trip with a simulated XenStore daemon. */
export const xenRoundTrip: RoundTrip = async ({ open, signal }, directory, tell) => {
  await using xen = await XenStoreSimulator.listen({ domain: DOMAIN, path: join(directory, "socket") });
  xen.createDomain(DOMAIN, {
    name: "web-01",
    uuid: "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d",
    vmData: { role: "web" },
  });
  tell("host", 'creates the domain web-01 with vm-data/role = "web"');

  await using bus = await open({ interfaces: [{ type: "Xen", channel: `unix:${xen.path}` }], signal });
  const guest = bus.primary as PvInterface;
  const { vmName, vmId } = await guest.facts({ signal });
  tell("guest", `is ${vmName}, ${vmId}`);
  tell("guest", `reads vm-data/role: "${await guest.read("vm-data/role", { signal })}"`);

  await guest.write("data/build", "1.2.3", { signal });
  tell("guest", 'writes data/build = "1.2.3"');
  tell("host", `sees ${HOME}/data/build = "${xen.read(`${HOME}/data/build`)}"`);

  const { key, value } = await nextChange(guest, "vm-data", signal, () =>
    xen.write(`${HOME}/vm-data/role`, "db"),
  );
  tell("guest", `its watch sees ${key} become "${value}"`);

  tell("guest", `deletes data/build: ${await guest.delete("data/build", { signal })}`);
  tell("host", `sees data/build ${xen.read(`${HOME}/data/build`) === undefined ? "gone" : "still there"}`);
};
