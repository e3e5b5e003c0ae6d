import { readFileSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { expect } from "chai";
import { ROOT } from "../support/pools.js";
import { sourceNames } from "../support/sources.js";

/** Imports by file: sources of the repository by their path, packages and Node's modules by their name. */
type Imports = ReadonlyMap<string, readonly string[]>;

/** One rule of design.md section 2: who, and what it may not import. */
interface Rule {
  readonly name: string;
  readonly from: RegExp;
  readonly forbidden: (imported: string, from: string) => boolean;
  /** An import that breaks the rule. */
  readonly planted: readonly [from: string, imported: string];
}

const inside = (...folders: readonly string[]) => {
  const pattern = new RegExp(`^(?:${folders.join("|")})`);
  return (path: string): boolean => pattern.test(path);
};
const isSource = (path: string): boolean => /^(?:src|providers)\//.test(path);
const outside = (...folders: readonly string[]) => {
  const allowed = inside(...folders);
  return (path: string): boolean => isSource(path) && !allowed(path);
};
const providerOf = (path: string): string => path.split("/", 2).join("/");

const RULES: readonly Rule[] = [
  {
    name: "src/base imports no other folder",
    from: /^src\/base\//,
    forbidden: outside("src/base/"),
    planted: ["src/base/errors.ts", "src/contract/store.ts"],
  },
  {
    name: "src/contract imports types of src/base alone",
    from: /^src\/contract\//,
    forbidden: outside("src/contract/", "src/base/"),
    planted: ["src/contract/store.ts", "src/native/posix/ready.ts"],
  },
  {
    name: "src/native imports src/base alone",
    from: /^src\/native\//,
    forbidden: outside("src/native/", "src/base/"),
    planted: ["src/native/posix/ready.ts", "src/contract/store.ts"],
  },
  {
    name: "src/mdata imports src/base alone",
    from: /^src\/mdata\//,
    forbidden: outside("src/mdata/", "src/base/"),
    planted: ["src/mdata/frame.ts", "src/native/posix/ready.ts"],
  },
  {
    name: "detection, the bus and the tools import what lies below them",
    from: /^src\/(?:bus|detect|tools)\//,
    forbidden: outside("src/(?:bus|detect|tools|contract|base|native|mdata)/"),
    planted: ["src/bus/open.ts", "src/composition.ts"],
  },
  {
    name: "the tools stand on the public API: base, contract, mdata, and types of the bus",
    // The notify socket is no store's: its messages are sent from here.
    from: /^src\/tools\/(?!ready\/notify\.ts$)/,
    forbidden: outside("src/(?:tools|bus|contract|base|mdata)/"),
    planted: ["src/tools/wait.ts", "src/native/posix/ready.ts"],
  },
  {
    name: "detection and the bus do not import the tools",
    from: /^src\/(?:bus|detect)\//,
    forbidden: inside("src/tools/"),
    planted: ["src/bus/bus.ts", "src/tools/wait.ts"],
  },
  {
    name: "detection does not import the bus",
    from: /^src\/detect\//,
    forbidden: inside("src/(?:bus|tools)/"),
    planted: ["src/detect/detect.ts", "src/bus/bus.ts"],
  },
  {
    name: "a provider imports base, contract, native and mdata, and no other provider",
    from: /^providers\/\w+\//,
    forbidden: (path, from) =>
      isSource(path) &&
      !path.startsWith(`${providerOf(from)}/`) &&
      !inside("src/(?:base|contract|native|mdata)/")(path),
    planted: ["providers/xen/store.ts", "providers/kvm/store.ts"],
  },
  {
    name: "protocol imports no I/O",
    from: /^providers\/\w+\/protocol\//,
    forbidden: (path) =>
      /^(?:node:)?(?:fs|net|child_process|os|timers|worker_threads|dgram|http)\b/.test(path) ||
      inside("src/native/", "src/base/(?:host|flow)/", "providers/\\w+/(?!protocol/)")(path),
    planted: ["providers/xen/protocol/wire.ts", "node:fs"],
  },
  {
    name: "in src the composition alone imports providers",
    from: /^src\/(?!composition\.ts$)/,
    forbidden: inside("providers/"),
    planted: ["src/cli/pvbus.ts", "providers/xen/index.ts"],
  },
  {
    name: "the composition imports manifests alone of the providers",
    from: /^src\/composition\.ts$/,
    forbidden: (path) => path.startsWith("providers/") && !/^providers\/\w+\/manifest\.ts$/.test(path),
    planted: ["src/composition.ts", "providers/xen/index.ts"],
  },
  {
    name: "src/native alone imports koffi",
    from: /^(?!src\/native\/)/,
    forbidden: (path) => path === "koffi",
    planted: ["src/base/errors.ts", "koffi"],
  },
  {
    name: "inversify is imported by the composition and by modules alone",
    from: /^(?!src\/composition\.ts$|providers\/\w+\/module\.ts$)/,
    forbidden: (path) => path === "inversify",
    planted: ["src/bus/open.ts", "inversify"],
  },
];

/** What the contract may take of the ground, and the tools of the bus, is erased: nothing of it runs. */
const TYPES_ALONE: readonly (readonly [from: RegExp, imported: string])[] = [
  [/^src\/contract\//, "src/base/"],
  [/^src\/tools\//, "src/bus/"],
];

const IMPORT =
  /^\s*(import|export)\b(\s+type\b)?[^;"]*?\bfrom\s*"([^"]+)"|\bimport\(\s*"([^"]+)"|^import\s+"([^"]+)"/gm;

/** Types of what a protocol works on are no I/O. */
const TYPES_ARE_FREE = /\/protocol\/.*src\/native\//;

/** Returns what each source imports, and where the contract or a tool imports more than types. */
function importsOf(names: readonly string[]): { imports: Imports; running: string[] } {
  const running: string[] = [];
  const imports = new Map(
    names.map((name) => {
      const found = [...readFileSync(join(ROOT, name), "utf8").matchAll(IMPORT)].flatMap(
        ([, , type, from, dynamic, bare]) => {
          const given = from ?? dynamic ?? bare ?? "";
          if (!given.startsWith(".")) return given;
          const path = posix.normalize(posix.join(dirname(name), given)).replace(/\.js$/, ".ts");
          const isTypeAlone = TYPES_ALONE.some(([by, of]) => by.test(name) && path.startsWith(of));
          if (isTypeAlone && type === undefined) running.push(`${name} -> ${path}`);
          return type !== undefined && TYPES_ARE_FREE.test(`${name} ${path}`) ? [] : path;
        },
      );
      return [name, found] as const;
    }),
  );
  return { imports, running };
}

/** Returns all imports that break a rule. */
function violations(imports: Imports): string[] {
  return [...imports].flatMap(([from, all]) =>
    RULES.filter((rule) => rule.from.test(from)).flatMap((rule) =>
      all.filter((each) => rule.forbidden(each, from)).map((each) => `${rule.name}: ${from} -> ${each}`),
    ),
  );
}

/** Returns the groups whose members reach each other (Tarjan). */
function cycles(graph: ReadonlyMap<string, Iterable<string>>): string[][] {
  const index = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  const found: string[][] = [];
  const visit = (node: string): void => {
    index.set(node, index.size);
    low.set(node, index.get(node) as number);
    stack.push(node);
    for (const next of graph.get(node) ?? []) {
      if (!index.has(next)) visit(next);
      if (stack.includes(next)) low.set(node, Math.min(low.get(node) as number, low.get(next) as number));
    }
    if (low.get(node) !== index.get(node)) return;
    const group = stack.splice(stack.indexOf(node));
    if (group.length > 1) found.push(group.sort());
  };
  for (const node of graph.keys()) if (!index.has(node)) visit(node);
  return found;
}

/** Returns which folder imports from which other. */
function folders(imports: Imports): Map<string, Set<string>> {
  const graph = new Map<string, Set<string>>();
  for (const [from, all] of imports)
    for (const to of all) {
      if (!isSource(to) || dirname(from) === dirname(to)) continue;
      const known = graph.get(dirname(from)) ?? new Set();
      graph.set(dirname(from), known.add(dirname(to)));
    }
  return graph;
}

describe("layers", () => {
  const { imports, running } = importsOf(sourceNames());

  it("are kept: nobody imports what it may not", () => {
    expect(imports.size).to.be.greaterThan(250);
    expect([...imports.values()].flat().filter(isSource).length).to.be.greaterThan(1000);
    expect(violations(imports)).to.deep.equal([]);
    expect(running).to.deep.equal([]);
  });

  for (const { name, planted } of RULES) {
    it(`would show a violation: ${name}`, () => {
      const [from, imported] = planted;
      const more = new Map(imports).set(from, [...(imports.get(from) ?? []), imported]);
      const all = violations(more);
      expect(all).to.include(`${name}: ${from} -> ${imported}`);
    });
  }

  it("have no cycle of files, and none of folders", () => {
    expect(cycles(imports)).to.deep.equal([]);
    expect(cycles(folders(imports))).to.deep.equal([]);
  });

  it("would show a cycle of files, and one of folders", () => {
    const more = new Map(imports).set("src/base/errors.ts", ["src/base/flow/call.ts"]);
    expect(cycles(more)).not.to.deep.equal([]);
    expect(cycles(folders(more))).not.to.deep.equal([]);
  });
});
