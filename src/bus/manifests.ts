import { typeOfId } from "../contract/interfaces.js";
import type { ProviderManifest } from "../contract/manifest.js";

/** Returns the id for an id or a type string without regard to case; undefined when no manifest serves it. */
export function idOf(manifests: readonly ProviderManifest[], type: string): string | undefined {
  const wanted = type.toLowerCase();
  const served = manifests.flatMap(({ serves = [] }) => serves).map((id) => ({ id, type: typeOfId(id) }));
  return [...manifests, ...served].find((each) => each.id === wanted || each.type.toLowerCase() === wanted)
    ?.id;
}

/** Returns the manifest that serves an id: its own, else that of one which serves it too. */
export function manifestOf(manifests: readonly ProviderManifest[], id: string): ProviderManifest | undefined {
  return manifests.find((each) => each.id === id) ?? manifests.find(({ serves = [] }) => serves.includes(id));
}
