export { type NumberedOptions, type NumberedValue, readNumbered } from "./numbered.js";
export { type UntilThereOptions, untilThere } from "./wait.js";
