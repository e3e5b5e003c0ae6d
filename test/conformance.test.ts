import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HypervProvider } from "../providers/hyperv/index.js";
import {
  type ConformanceSubject,
  describeProviderConformance,
  HypervHostSimulator,
  KvpHostError,
} from "../providers/testing.js";
import { nodeHost } from "../src/base/host/node-host.js";
import { fixture } from "./support/pools.js";

/** The Hyper-V provider on pool files in the place of one operating system. */
async function hypervOn(platform: NodeJS.Platform, place: string): Promise<ConformanceSubject> {
  const sysroot = mkdtempSync(join(tmpdir(), "pvbus-conformance-"));
  const directory = join(sysroot, place);
  mkdirSync(directory, { recursive: true });
  for (const number of [0, 1, 2, 3, 4]) writeFileSync(join(directory, `.kvp_pool_${number}`), "");
  writeFileSync(join(directory, ".kvp_pool_0"), fixture("pool0_utf8.bin"));
  const host = await HypervHostSimulator.create({ sysroot, platform });
  return {
    provider: new HypervProvider(nodeHost({ platform, sysroot })),
    keys: {
      writable: (label) => `Guest/${label}`,
      prefix: "Guest/",
      uncounted: "Guest/",
      given: { "External/naïve": "Grüße aus Köln", "External/emoji": "🙂🚀" },
      readOnly: ["External/naïve", "External/absent", "Auto/OSName", "Guest/Parameters/HostName"],
    },
    host: {
      key: (label) => `External/${label}`,
      set: async (key, value) => {
        const name = key.slice("External/".length);
        await host.removeKvpItems([name]).catch((error: unknown) => {
          if (!(error instanceof KvpHostError)) throw error;
        });
        if (value !== undefined) await host.addKvpItems([{ name, data: value }]);
      },
      prefix: "External/",
    },
    cleanup: () => rmSync(sysroot, { recursive: true, force: true }),
  };
}

/** A pool holds text. */
const WITHOUT = { without: ["binary", "take"] } as const;

describeProviderConformance(
  "HypervProvider on Linux pool files",
  () => hypervOn("linux", "var/lib/hyperv"),
  WITHOUT,
);
describeProviderConformance(
  "HypervProvider on FreeBSD pool files",
  () => hypervOn("freebsd", "var/db/hyperv/pool"),
  WITHOUT,
);
