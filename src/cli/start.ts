import nodeModule from "node:module";

/** Begins a program. Where Node keeps compiled code, that is set up before the program is read: what is read earlier is not kept. */
export async function start(main: () => Promise<void>): Promise<void> {
  if ("enableCompileCache" in nodeModule) {
    const { enableCompileCache } = await import("./io/compile-cache.js");
    enableCompileCache();
  }
  await main();
}
