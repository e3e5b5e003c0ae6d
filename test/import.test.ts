import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { ROOT } from "./support/pools.js";
import { start } from "./support/processes.js";

/** Returns the scripts that a program loaded, as V8's coverage lists them. */
async function loadedBy(script: string): Promise<string[]> {
  const folder = mkdtempSync(join(tmpdir(), "pvbus-import-"));
  try {
    const env = { ...process.env, NODE_V8_COVERAGE: folder };
    const { code, stderr } = await start(process.execPath, ["--input-type=module", "-e", script], env).done;
    expect(code, stderr).to.equal(0);
    return readdirSync(folder).flatMap((name) =>
      (JSON.parse(readFileSync(join(folder, name), "utf8")).result as { url: string }[]).map(
        ({ url }) => url,
      ),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const index = JSON.stringify(`${ROOT}/dist/src/index.js`);
/** Manifests and how their commands are called are plain data, and what they name loads on first use. */
const heavy = (urls: readonly string[]): string[] =>
  urls.filter((url) =>
    /node_modules|\/providers\/(?!\w+\/(?:manifest|options|boot-data|transport\/locate|commands\/entries)\.js)|\/native\//.test(
      url,
    ),
  );

describe("importing pvbus", () => {
  it("loads no package, no provider and nothing native", async () => {
    const urls = await loadedBy(`await import(${index});`);
    expect(urls.some((url) => url.endsWith("dist/src/index.js"))).to.equal(true);
    expect(heavy(urls)).to.deep.equal([]);
    expect(urls.filter((url) => url.includes("/dist/src/")).length).to.be.lessThan(35);
  });

  it("openPvbus loads inversify and a provider only where its interface is there", async () => {
    const folder = mkdtempSync(join(tmpdir(), "pvbus-empty-"));
    const urls = await loadedBy(
      `const { openPvbus } = await import(${index});
       const bus = await openPvbus({ sysroot: ${JSON.stringify(folder)}, snapshot: {
         os: "linux", arch: "arm64", cpuid: null, dmi: { sys_vendor: "Parallels", product_name: "Parallels" }, files: {} } });
       if (bus.primary?.type !== "Parallels") throw new Error("not Parallels");
       await bus.close();`,
    );
    rmSync(folder, { recursive: true });
    expect(heavy(urls)).to.deep.equal([]);
  });
});
