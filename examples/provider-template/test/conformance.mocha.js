import { describeProviderConformance } from "pvbus/testing";
import { subject, without } from "./subject.js";

describeProviderConformance("AcmeProvider", subject, { without });
