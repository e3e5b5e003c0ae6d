import { firmwareText } from "../base/firmware/dmi.js";
import { known, textOf } from "../base/firmware/fact.js";
import { type CpuidScan, ISOLATION } from "./cpuid.js";
import type { Facts } from "./facts.js";

/** Chassis asset tag of every Azure machine. */
export const AZURE_ASSET_TAG = "7783-7084-3265-9085-8269-3286-77";
/** Cloud platforms by the beginning of the system's vendor, or of its product (cloud-init tools/ds-identify). */
const PLATFORMS = [
  ["sys_vendor", "DigitalOcean", "digitalocean"],
  ["sys_vendor", "Hetzner", "hetzner"],
  ["sys_vendor", "Vultr", "vultr"],
  ["sys_vendor", "Scaleway", "scaleway"],
  ["sys_vendor", "UpCloud", "upcloud"],
  ["sys_vendor", "Linode", "akamai"],
  ["sys_vendor", "Akamai", "akamai"],
  ["product_name", "Exoscale", "exoscale"],
  ["product_name", "CloudStack", "cloudstack"],
  ["product_name", "SmartDC", "smartos"],
] as const;
/** Highest basic leaf and text of a TDX guest (Linux arch/x86/coco/tdx/tdx.c). */
const TDX_LEAF = 0x21;
/** AMD's memory encryption: leaf, its bit for SEV, and the register that says what is on (systemd src/basic/confidential-virt.c). */
const SEV_LEAF = 0x8000001f;
const SEV_SUPPORTED = 2;
const SEV_STATUS_MSR = 0xc0010131;

/** Returns the cloud platform by its firmware texts, or null. */
export function findPlatform(facts: Facts): string | null {
  const text = (field: string): string => firmwareText(facts, field).text;
  const product = text("product_name");
  const texts = { sys_vendor: text("sys_vendor"), product_name: product };
  if (text("chassis_asset_tag") === AZURE_ASSET_TAG) return "azure";
  const xenUuid = textOf(facts.file("/sys/hypervisor/uuid"));
  if (texts.sys_vendor === "Amazon EC2" || text("bios_version").endsWith(".amazon") || /^ec2/i.test(xenUuid))
    return "ec2";
  if (product === "Google Compute Engine" || text("product_serial").startsWith("GoogleCloud-")) return "gce";
  if (/^OpenStack (Nova|Compute)/.test(product) || text("chassis_asset_tag").startsWith("OpenStack"))
    return "openstack";
  if (text("chassis_asset_tag") === "OracleCloud.com") return "oracle";
  if (product === "Alibaba Cloud ECS") return "alibaba";
  return PLATFORMS.find(([field, beginning]) => texts[field].startsWith(beginning))?.[2] ?? null;
}

/** LXC's control groups: `/lxc/NAME` and, since version 4, `/lxc.payload.NAME`. */
export const LXC_GROUP = /\/lxc(\/|\.payload[./])/;

/** Returns the container around this process, or null. A leftover /.dockerenv alone proves nothing. */
export function findContainer(facts: Facts): string | null {
  if (/Microsoft|WSL/i.test(textOf(facts.file("/proc/sys/kernel/osrelease")))) return "wsl";
  if (facts.file("/proc/vz").kind === "value" && facts.file("/proc/bc").kind !== "value") return "openvz";
  const named =
    textOf(facts.file("/run/host/container-manager")) || textOf(facts.file("/run/systemd/container"));
  if (named !== "") return named;
  const inherited = /(?:^|\0)container=([^\0]+)/.exec(known(facts.file("/proc/1/environ")) ?? "")?.[1];
  if (inherited !== undefined) return inherited;
  if (facts.file("/run/.containerenv").kind === "value") return "podman";
  const cgroup = known(facts.file("/proc/1/cgroup")) ?? "";
  if (/[/-]libpod-/.test(cgroup)) return "podman";
  if (/\/docker[/-]/.test(cgroup)) return "docker";
  if (LXC_GROUP.test(cgroup)) return "lxc";
  return null;
}

/** Returns the confidential computing technology, or null. */
export function findConfidential(facts: Facts, scan: CpuidScan): string | null {
  const hyperv = scan.ranges.find(({ isHypervInterface }) => isHypervInterface);
  const leaf = (number: number) => known(facts.cpuid(number));
  if (hyperv !== undefined && ((leaf(hyperv.base + 3)?.ebx ?? 0) & ISOLATION) !== 0) {
    const isolation = (leaf(hyperv.base + 0xc)?.ebx ?? 0) & 0xf;
    if (isolation === 2) return "sev-snp";
    if (isolation === 3) return "tdx";
  }
  if (textOf(facts.file("/sys/firmware/uv/prot_virt_guest")) === "1") return "protvirt";
  if (facts.file("/sys/devices/platform/arm-cca-dev").kind === "value") return "cca";
  if (scan.hypervisorBit !== true) return null;
  if (((leaf(SEV_LEAF)?.eax ?? 0) & SEV_SUPPORTED) !== 0) {
    const status = known(facts.msr(SEV_STATUS_MSR)) ?? 0n;
    if ((status & 4n) !== 0n) return "sev-snp";
    if ((status & 2n) !== 0n) return "sev-es";
    if ((status & 1n) !== 0n) return "sev";
  }
  if ((leaf(0)?.eax ?? 0) >= TDX_LEAF) {
    const { ebx = 0, ecx = 0, edx = 0 } = leaf(TDX_LEAF) ?? {};
    if (ebx === 0x65746e49 && edx === 0x5844546c && ecx === 0x20202020) return "tdx";
  }
  return null;
}
