import { type Koffi, loadKoffi } from "../../src/native/ffi/koffi.js";

/** A declared function, as koffi gives it. */
export type Declared = ((...args: unknown[]) => unknown) & { async?: unknown };

/**
 * Returns a koffi whose declared functions a test sees.
 * @param replace gives what stands in for a function; `declare` declares another one
 */
export function watchedKoffi(
  replace: (declaration: string, declare: (declaration: string) => Declared) => Declared,
): Koffi {
  const real = loadKoffi();
  const load = (name: string | null): unknown => {
    const library = real.load(name);
    const declare = (declaration: string): Declared => library.func(declaration) as Declared;
    return { ...library, func: (declaration: string) => replace(declaration, declare) };
  };
  return { ...real, load } as unknown as Koffi;
}

/** Returns a koffi that tells of each direct call of the functions whose declaration matches. */
export function countingKoffi(matching: RegExp, count: () => void): Koffi {
  return watchedKoffi((declaration, declare) => {
    const declared = declare(declaration);
    if (!matching.test(declaration)) return declared;
    const counted = (...args: unknown[]): unknown => {
      count();
      return declared(...args);
    };
    return Object.assign(counted, { async: declared.async });
  });
}
