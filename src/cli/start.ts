/** Node keeps compiled code since 22.1. The module that can say so is not asked: to load it costs as much as a cache saves. */
const FIRST_WITH_CACHE = 22;

/** Begins a program. Where Node keeps compiled code, that is set up before the program is read: what is read earlier is not kept. */
export async function start(main: () => Promise<void>): Promise<void> {
  if (Number.parseInt(process.versions.node, 10) >= FIRST_WITH_CACHE) {
    const { enableCompileCache } = await import("./io/compile-cache.js");
    enableCompileCache();
  }
  await main();
}
