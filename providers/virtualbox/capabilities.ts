import type { Capabilities } from "../../src/contract/capabilities.js";
import { MAX_NAME_BYTES, MAX_VALUE_BYTES } from "./protocol/properties.js";

/** What guest properties can do. Which of them are read-only is the host's to say, by property. */
export const CAPABILITIES: Capabilities = Object.freeze({
  read: true,
  write: true,
  delete: true,
  list: true,
  watch: true,
  limits: { maxKeyBytes: MAX_NAME_BYTES, maxValueBytes: MAX_VALUE_BYTES },
});
