import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, cpSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ROOT } from "./pools.js";

const CACHE = join(ROOT, ".lab-cache/windows");
const NODE = join(CACHE, "node.exe");
/** Long enough for the first start of a prefix on a busy machine. */
const PATIENCE_MS = 120_000;

/** A Windows made of wine, with Node for Windows and this package's compiled tree in it. */
export class Wine implements AsyncDisposable {
  /** Where the package lies. */
  readonly app: string;
  readonly #home: string;
  readonly #env: NodeJS.ProcessEnv;

  private constructor(home: string) {
    this.#home = home;
    this.app = join(home, "app");
    this.#env = {
      ...process.env,
      HOME: home,
      WINEPREFIX: join(home, "prefix"),
      WINEARCH: "win64",
      WINEDEBUG: "-all",
      DISPLAY: "",
    };
  }

  /** Tells why there is none; undefined where there is one. */
  static whyNot(): string | undefined {
    if (!["/usr/bin/wine", "/usr/bin/wine64"].some((path) => existsSync(path)))
      return "no wine (apt-get install wine wine64)";
    if (!existsSync(join(CACHE, "app/stamp")))
      return "Node for Windows is not fetched (node scripts/fetch-windows.mjs)";
    return undefined;
  }

  /** Sets one up, Windows 10, which Node asks for. */
  static async start(): Promise<Wine> {
    const wine = new Wine(mkdtempSync(join(tmpdir(), "pvbus-wine-")));
    cpSync(join(CACHE, "app"), wine.app, { recursive: true });
    cpSync(join(ROOT, "dist"), join(wine.app, "dist"), { recursive: true });
    await wine.#run("wine", ["wineboot", "-i"]);
    await wine.#run("wine", ["reg", "add", "HKCU\\Software\\Wine", "/v", "Version", "/d", "win10", "/f"]);
    return wine;
  }

  /** Runs a script with Node for Windows. @returns what it said, both streams, and its exit code */
  node(...args: string[]): Promise<{ code: number | null; output: string }> {
    return this.#run("wine", [NODE, ...args]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Ends the server of this prefix alone.
    await this.#run("wineserver", ["-k"]);
    rmSync(this.#home, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }

  /** Through a file and until the process ends: wine's server inherits the streams and keeps a pipe open. */
  async #run(command: string, args: readonly string[]): Promise<{ code: number | null; output: string }> {
    const path = join(this.#home, "output");
    const file = openSync(path, "w");
    try {
      const child = spawn(command, args, {
        cwd: existsSync(this.app) ? this.app : this.#home,
        env: this.#env,
        stdio: ["ignore", file, file],
        timeout: PATIENCE_MS,
        killSignal: "SIGKILL",
      });
      const code = await ended(child);
      return { code, output: readFileSync(path, "utf8") };
    } finally {
      closeSync(file);
    }
  }
}

function ended(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", resolve);
  });
}
