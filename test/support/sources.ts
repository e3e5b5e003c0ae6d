import { readdirSync, readFileSync } from "node:fs";
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

/** The sources as trees, without their types. */
export function parsedSources(): ts.SourceFile[] {
  return sourceNames().map((name) => {
    const path = join(ROOT, name);
    return TS.createSourceFile(path, readFileSync(path, "utf8"), TS.ScriptTarget.ES2022, true);
  });
}

/** Calls back for a node and all below it. */
export function everyNode(node: ts.Node, look: (node: ts.Node) => void): void {
  look(node);
  node.forEachChild((child) => everyNode(child, look));
}

/** The sources with their types, which takes some seconds. */
export function typedSources(text?: ReadonlyMap<string, string>): {
  checker: ts.TypeChecker;
  files: ts.SourceFile[];
} {
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
    const given = text?.get(path);
    if (given === undefined) return getSourceFile(path, language, ...rest);
    return TS.createSourceFile(path, given, language, true);
  };
  const names = text === undefined ? sourceNames().map((name) => join(ROOT, name)) : [...text.keys()];
  const program = TS.createProgram(names, settings, host);
  const wanted = new Set(names);
  return {
    checker: program.getTypeChecker(),
    files: program.getSourceFiles().filter(({ fileName }) => wanted.has(fileName)),
  };
}
