/** The host's namespace database: values by namespace and key, texts without NUL. */
export class SimulatedNamespaces {
  readonly #namespaces = new Map<string, Map<string, string>>();

  /** Makes a namespace, as the administrator does; returns its pairs. */
  create(name: string): Map<string, string> {
    const pairs = this.#namespaces.get(name) ?? new Map<string, string>();
    this.#namespaces.set(name, pairs);
    return pairs;
  }

  /** `NS\0KEY\0[KEY\0…]`: each value with its NUL, an absent one empty. */
  get(args: Buffer): string {
    const [name = "", ...keys] = textsOf(args);
    const pairs = this.#namespaces.get(name);
    // The words are not documented.
    if (pairs === undefined) return "0 Namespace not found";
    if (pairs.size === 0) return "1 ";
    return `1 ${keys.map((key) => `${pairs.get(key) ?? ""}\0`).join("")}`;
  }

  /** `NS\0COUNT\0` and as many times `OP\0KEY\0VALUE\0OLD\0`; all of them or none. */
  set(args: Buffer): string {
    const [name = "", count, ...rest] = textsOf(args);
    const pairs = this.#namespaces.get(name);
    if (pairs === undefined) return "0 Namespace not found";
    if (Number(count) * 4 !== rest.length) return "0 Invalid arguments";
    const after = new Map(pairs);
    for (let at = 0; at < rest.length; at += 4) {
      const [op, key = "", value = "", old = ""] = rest.slice(at, at + 4);
      if (op === "1" && (after.get(key) ?? "") !== old) return "0 Value mismatch";
      if (value === "") after.delete(key);
      else after.set(key, value);
    }
    pairs.clear();
    for (const [key, value] of after) pairs.set(key, value);
    return "1 ";
  }
}

function textsOf(args: Buffer): string[] {
  const texts = args.toString().split("\0");
  return texts.at(-1) === "" ? texts.slice(0, -1) : texts;
}
