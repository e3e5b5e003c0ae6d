import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { debianTree } from "./debian-packages.js";
import { findPython, start } from "./processes.js";

/** cloud-init as a suite of Debian packs it, unpacked without being installed. */
export interface CloudInit {
  /** Its own version. */
  readonly version: string;
  /** Where its files are. */
  readonly directory: string;
  /** Runs a script of Python with it; gives what the script prints as JSON. */
  run(script: string, args?: readonly string[], env?: NodeJS.ProcessEnv): Promise<unknown>;
}

/** What it imports: the machine's own, which go with both. */
const IMPORTS = "import configobj, jinja2, jsonpatch, jsonschema, netifaces, oauthlib, requests, yaml";

/** Returns a suite's cloud-init, or why there is none. */
export function cloudInit(suite: "bookworm" | "trixie"): CloudInit | { readonly why: string } {
  const python = findPython(IMPORTS);
  if (python === undefined)
    return {
      why: "what cloud-init imports (apt-get install cloud-init, or the python3 packages that it needs)",
    };
  let tree: ReturnType<typeof debianTree>;
  try {
    tree = debianTree(`cloud-init-${suite}`, ["cloud-init"], suite);
  } catch (error) {
    return { why: `Debian's cloud-init of ${suite}: ${(error as Error).message}` };
  }
  return {
    version: tree.version,
    directory: tree.directory,
    run: async (script, args = [], env = process.env) => {
      const folder = mkdtempSync(join(tmpdir(), "pvbus-cloud-init-"));
      try {
        const path = join(folder, "script.py");
        writeFileSync(path, script);
        const { code, stdout, stderr } = await start(python, [path, ...args], {
          ...env,
          PYTHONPATH: join(tree.directory, "usr/lib/python3/dist-packages"),
          PYTHONDONTWRITEBYTECODE: "1",
        }).done;
        if (code !== 0) throw new Error(`cloud-init ${tree.version}: ${stderr}`);
        return JSON.parse(stdout);
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  };
}
