import type { Target } from "./target.js";
import { COMMAND_LINE } from "./targets/command-line.js";
import { CORE } from "./targets/core.js";
import { HYPERV } from "./targets/hyperv.js";
import { KVM } from "./targets/kvm.js";
import { KVM_HOST } from "./targets/kvm-host.js";
import { KVP } from "./targets/kvp.js";
import { LXD } from "./targets/lxd.js";
import { MACHINE } from "./targets/machine.js";
import { MDATA } from "./targets/mdata.js";
import { TOOLS } from "./targets/tools.js";
import { VIRTUALBOX } from "./targets/virtualbox.js";
import { VMWARE } from "./targets/vmware.js";
import { XEN } from "./targets/xen.js";

/** The targets by the modules that hold them, so that a run of one loads no more than it needs. */
export const MODULES: ReadonlyMap<string, readonly Target[]> = new Map([
  ["hyperv", HYPERV],
  ["kvp", KVP],
  ["xen", XEN],
  ["mdata", MDATA],
  ["kvm", KVM],
  ["kvm-host", KVM_HOST],
  ["vmware", VMWARE],
  ["lxd", LXD],
  ["virtualbox", VIRTUALBOX],
  ["core", CORE],
  ["tools", TOOLS],
  ["machine", MACHINE],
  ["command-line", COMMAND_LINE],
]);

/** Every target. */
export const TARGETS: readonly Target[] = [...MODULES.values()].flat();
