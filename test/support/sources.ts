import { readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import type ts from "typescript";
import { ROOT } from "./pools.js";

/** TypeScript by `require`: `import` looks through its nine megabytes for names first, which takes longer than loading it. */
export const TS = createRequire(import.meta.url)("typescript") as typeof ts;

/** Where something stands: `src/base/own.ts:9`. */
export function placeOf(node: ts.Node): string {
  const file = node.getSourceFile();
  const { line } = file.getLineAndCharacterOfPosition(node.getStart());
  return `${nameOf(file)}:${line + 1}`;
}

/** Name of a source file from the top of the repository. */
export function nameOf({ fileName }: ts.SourceFile): string {
  return fileName.slice(ROOT.length).replace(/^\//, "");
}

/** Names of the sources in these folders. */
export function sourceNames(folders: readonly string[] = ["src", "providers"]): string[] {
  return folders.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts"))
      .map((name) => join(folder, name)),
  );
}

/** Sources with their types. */
export interface TypedSources {
  readonly checker: ts.TypeChecker;
  readonly files: ts.SourceFile[];
}

let typed: TypedSources | undefined;

/** Returns the sources as trees: the typed ones, parsed once for all files of a process. */
export function parsedSources(): ts.SourceFile[] {
  return typedSources().files;
}

/** Calls back for a node and all below it. */
export function everyNode(node: ts.Node, look: (node: ts.Node) => void): void {
  look(node);
  node.forEachChild((child) => everyNode(child, look));
}

/** The sources with their types, which takes some seconds, once in a process. */
export function typedSources(): TypedSources {
  const names = sourceNames();
  typed ??= programOf(
    names.map((name) => join(ROOT, name)),
    new Map(),
  );
  return typed;
}

/** A text with its types, as if it stood at that path. */
export function typedText(path: string, text: string): TypedSources {
  return programOf([path], new Map([[path, text]]));
}

/** What the programs of a process share: the language's own declarations, by their path. */
const libraries = new Map<string, ts.SourceFile | undefined>();

function programOf(names: readonly string[], given: ReadonlyMap<string, string>): TypedSources {
  const { options } = TS.parseJsonConfigFileContent(
    TS.readConfigFile(join(ROOT, "tsconfig.json"), TS.sys.readFile).config,
    TS.sys,
    ROOT,
  );
  const { tsBuildInfoFile: _, ...others } = options;
  const settings: ts.CompilerOptions = { ...others, noEmit: true, incremental: false };
  const host = TS.createCompilerHost(settings, true);
  const { getSourceFile } = host;
  host.getSourceFile = (path, language, ...rest) => {
    const text = given.get(path);
    if (text !== undefined) return TS.createSourceFile(path, text, language, true);
    if (!path.endsWith(".d.ts")) return getSourceFile(path, language, ...rest);
    if (!libraries.has(path)) libraries.set(path, getSourceFile(path, language, ...rest));
    return libraries.get(path);
  };
  const program = TS.createProgram(names, settings, host);
  const wanted = new Set(names);
  return {
    checker: program.getTypeChecker(),
    files: program.getSourceFiles().filter(({ fileName }) => wanted.has(fileName)),
  };
}
