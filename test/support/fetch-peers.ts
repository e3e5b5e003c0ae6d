import { openVmTools } from "./open-vm-tools.js";
import { xenPackages } from "./xen/packages.js";

/*
 * Fetches what tests unpack from Debian's archive. scripts/test.mjs runs it first: test files that run at the same time
 * would do so each, and apt-get refuses a second one beside it.
 */
for (const [what, found] of [
  ["VMware's tools", openVmTools()],
  ["Xen's daemons", xenPackages()],
] as const)
  if ("why" in found) console.log(`NOT FETCHED, their tests will be pending: ${what}: ${found.why}`);
