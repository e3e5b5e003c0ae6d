import { after, before, describe, it } from "node:test";
import { describeProviderConformance } from "pvbus/testing";
import { subject, without } from "./subject.js";

describeProviderConformance("AcmeProvider", subject, { without, runner: { after, before, describe, it } });
