import type { PvInterface } from "./interface.js";

/** View of one interface with directions instead of native key syntax. */
export class PortableView {
  /** @internal */
  constructor(_target: PvInterface, _namespace: string) {}
}
