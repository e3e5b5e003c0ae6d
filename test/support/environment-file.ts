import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** What a reader takes a file of variables for. */
export type Variables = ReadonlyMap<string, string>;

const GENERATOR = "/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator";
/** What systemd's parser calls white space and line ends (src/basic/env-file.c). */
const BLANKS = " \t\n\r";

/** Reads a file of variables as systemd 252 does, character by character; throws for what it refuses. */
export function systemdReads(text: string): Variables {
  const found = new Map<string, string>();
  let state: "before name" | "name" | "before value" | "value" | "single" | "double" | "comment" =
    "before name";
  let name = "";
  let value = "";
  /** Where an unquoted value ends without the blanks behind it. */
  let end = 0;
  const push = (): void => {
    if (name.trim() !== "") found.set(name.trim(), value.slice(0, end));
    name = "";
    value = "";
    end = 0;
    state = "before name";
  };
  const chars = [...text];
  for (let at = 0; at < chars.length; at++) {
    const char = chars[at] as string;
    const isEnd = char === "\n" || char === "\r";
    const add = (more: string): void => {
      value += more;
      end = value.length;
    };
    switch (state) {
      case "before name":
        if (char === "#" || char === ";") state = "comment";
        else if (!BLANKS.includes(char)) {
          state = "name";
          name = char;
        }
        break;
      case "name":
        if (isEnd) {
          state = "before name";
          name = "";
        } else if (char === "=") state = "before value";
        else name += char;
        break;
      case "before value":
      case "value":
        if (isEnd) push();
        else if (char === "\\") {
          const next = chars[++at] ?? "";
          if (next !== "\n" && next !== "\r") add(next);
          state = "value";
        } else if (state === "before value" && char === "'") state = "single";
        else if (state === "before value" && char === '"') state = "double";
        else if (!BLANKS.includes(char)) {
          state = "value";
          add(char);
        } else if (state === "value") value += char;
        break;
      case "single":
        if (char === "'") state = "before value";
        else add(char);
        break;
      case "double":
        if (char === '"') state = "before value";
        else if (char === "\\") {
          const next = chars[++at] ?? "";
          if ('"\\`$'.includes(next)) add(next);
          else if (next !== "\n" && next !== "\r") add(`\\${next}`);
        } else add(char);
        break;
      case "comment":
        if (isEnd) state = "before name";
        break;
    }
  }
  if (state !== "before name" && state !== "comment" && state !== "name") push();
  return found;
}

/**
 * Reads these variables as this machine's systemd does; undefined where there is none. That reader of such files fills in what
 * stands behind a `$`, and leaves out what is empty.
 */
export function thisSystemdReads(text: string, names: readonly string[]): Variables | undefined {
  if (!existsSync(GENERATOR)) return undefined;
  const home = mkdtempSync(join(tmpdir(), "pvbus-environment-"));
  try {
    mkdirSync(join(home, ".config/environment.d"), { recursive: true });
    writeFileSync(join(home, ".config/environment.d/50-test.conf"), text);
    const { stdout, stderr, status } = spawnSync(GENERATOR, [], {
      encoding: "utf8",
      env: { HOME: home, XDG_CONFIG_HOME: join(home, ".config") },
    });
    if (status !== 0) throw new Error(stderr);
    const found = stdout.split("\n").filter(Boolean).map(cut);
    return new Map(
      found.filter(([name]) => names.includes(name)).map(([name, value]) => [name, unquoted(value)]),
    );
  } finally {
    rmSync(home, { recursive: true });
  }
}

/** Reads these variables as a shell does that sources the file; it says nothing else, and knows nothing else. */
export function shellReads(text: string, names: readonly string[]): Variables {
  const folder = mkdtempSync(join(tmpdir(), "pvbus-environment-"));
  try {
    const file = join(folder, "env");
    writeFileSync(file, text);
    // What env(1) prints ends with a NUL, so no value can hide in another.
    const script = 'set -a; . "$1"; exec env -0';
    const { stdout, stderr, status } = spawnSync("sh", ["-euc", script, "sh", file], {
      encoding: "utf8",
      maxBuffer: 64 * 1024 * 1024,
      env: { PATH: process.env["PATH"] },
    });
    if (status !== 0 || stderr !== "") throw new Error(`${status}: ${stderr}`);
    const own = new Set(["PATH", "PWD", "OLDPWD", "SHLVL", "_"].filter((name) => !names.includes(name)));
    return new Map(
      stdout
        .split("\0")
        .filter(Boolean)
        .map(cut)
        .filter(([name]) => !own.has(name)),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const ESCAPES: Readonly<Record<string, string>> = {
  a: "\u0007",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
};

/** Takes off the quotes and escapes with which systemd prints. */
function unquoted(value: string): string {
  if (!value.startsWith('"')) return value;
  return value
    .slice(1, -1)
    .replace(/\\([0-7]{3}|.)/g, (_, what: string) =>
      what.length === 3 ? String.fromCharCode(Number.parseInt(what, 8)) : (ESCAPES[what] ?? what),
    );
}

function cut(line: string): [name: string, value: string] {
  const at = line.indexOf("=");
  return [line.slice(0, at), line.slice(at + 1)];
}
