import { describeProviderConformance } from "pvbus/testing";
import { afterAll, beforeAll, describe, it } from "vitest";
import { subject, without } from "./subject.js";

const runner = { after: afterAll, before: beforeAll, describe, it };
describeProviderConformance("AcmeProvider", subject, { without, runner });
