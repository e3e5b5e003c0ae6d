export { HypervHostSimulator, KvpHostError, type KvpItem } from "./hyperv-host.js";
