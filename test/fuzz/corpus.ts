import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../support/pools.js";
import type { Target } from "./target.js";

/** Where the corpora are: one text per target, an input a line. */
const CORPUS = join(ROOT, "test/fuzz/corpus");

/** Returns a target's inputs: those of its corpus, and what its encoders make. */
export function corpusOf({ name, seeds }: Target): Uint8Array[] {
  const path = join(CORPUS, `${name}.txt`);
  const lines = existsSync(path) ? readFileSync(path, "utf8").split("\n") : [];
  const kept = lines.filter((line) => line !== "" && !line.startsWith("#")).map(unescaped);
  return [...kept, ...(seeds?.() ?? []).map((each) => Buffer.from(each as Uint8Array))];
}

/** Returns bytes as a line of a corpus: printable ASCII as it is, the rest as `\xNN`; `\xNN*12` stands for twelve. */
export function escaped(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString("latin1");
  const line = text.replace(/(.)\1{7,}|[^ -~]|\\/gs, (run) =>
    run.length === 1 ? codeOf(run) : `${codeOf(run)}*${run.length};`,
  );
  return line.startsWith("#") ? `${codeOf(line)}${line.slice(1)}` : line;
}

function codeOf(text: string): string {
  return `\\x${text.charCodeAt(0).toString(16).padStart(2, "0")}`;
}

/** Returns the bytes of a line. */
export function unescaped(line: string): Buffer {
  const text = line.replace(/\\x([0-9a-f]{2})(?:\*(\d+);)?/g, (_, code: string, count?: string) =>
    String.fromCharCode(Number.parseInt(code, 16)).repeat(Number(count ?? 1)),
  );
  return Buffer.from(text, "latin1");
}
