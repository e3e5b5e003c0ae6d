/**
 * Stands in for inversify inside the bundled command lines, which take no modules from outside: the few calls that
 * src/container.ts and the providers' modules make. inversify itself would be half of a short command's own time.
 */

type Create = () => unknown;

interface Binding {
  toConstantValue(value: unknown): void;
  toResolvedValue(factory: (...args: never[]) => unknown, dependencies?: readonly symbol[]): void;
}

/** Binds services by their tokens; every service is created once. */
export class Container {
  readonly #bindings = new Map<symbol, Create[]>();

  /** Begins a binding; arrow function, since modules take it apart from the container. */
  readonly bind = (token: symbol): Binding => {
    const add = (create: Create): void => {
      let made: { readonly value: unknown } | undefined;
      const creators = this.#bindings.get(token) ?? [];
      creators.push(() => {
        made ??= { value: create() };
        return made.value;
      });
      this.#bindings.set(token, creators);
    };
    return {
      toConstantValue: (value) => add(() => value),
      toResolvedValue: (factory, dependencies = []) =>
        add(() => factory(...(dependencies.map((each) => this.#get(each)) as never[]))),
    };
  };

  /** Lets a module add its bindings. */
  load(module: ContainerModule): void {
    module.register({ bind: this.bind });
  }

  /** Returns all services of a token, in binding order. */
  getAll(token: symbol): unknown[] {
    return (this.#bindings.get(token) ?? []).map((create) => create());
  }

  #get(token: symbol): unknown {
    const [first, second] = this.#bindings.get(token) ?? [];
    if (first === undefined || second !== undefined) throw new Error(`no single binding of ${String(token)}`);
    return first();
  }
}

/** A group of bindings. */
export class ContainerModule {
  /** Adds the bindings. */
  readonly register: (options: { bind: Container["bind"] }) => void;

  /** @param register adds the bindings */
  constructor(register: (options: { bind: Container["bind"] }) => void) {
    this.register = register;
  }
}
