/** In a guest of QEMU: boot configuration and credentials of real devices, readiness over vsock. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { Call } from "../../../src/base/flow/call.js";
import { listenVsock, VMADDR_PORT_ANY } from "../../../src/native/posix/vsock.js";
import { pvbus, SLOW_MS } from "./command.js";

const CONFIG = "#cloud-config\nhostname: lab\n";
/** systemd's own sends from this port; who is root sends from one like it. */
const PRIVILEGED = 1024;

describe("boot configuration of QEMU's devices", () => {
  it("is found, from fw_cfg and from the serial number", async () => {
    const { code, stdout, stderr } = await pvbus("userdata", "get", "user-data", "-t", "KVM");
    expect(code, stderr).to.equal(0);
    expect(stdout).to.equal(CONFIG);
    const metadata = await pvbus("userdata", "get", "meta-data", "-t", "KVM");
    expect(JSON.parse(metadata.stdout)).to.deep.equal({ "instance-id": "lab-7", "local-hostname": "lab" });
    const ignition = await pvbus("userdata", "get", "ignition", "-t", "KVM", "--json");
    expect(JSON.parse(ignition.stdout)).to.include({ store: "fw_cfg", value: '{"ignition":{}}' });
  });

  it("becomes a seed for cloud-init", async () => {
    const seed = join(mkdtempSync(join(tmpdir(), "seed-")), "nocloud");
    const { code, stderr } = await pvbus("userdata", "nocloud", seed, "-t", "KVM");
    expect(code, stderr).to.equal(0);
    expect(readdirSync(seed).sort()).to.deep.equal(["meta-data", "user-data"]);
    expect(readFileSync(join(seed, "user-data"), "utf8")).to.equal(CONFIG);
    expect(JSON.parse(readFileSync(join(seed, "meta-data"), "utf8"))).to.include({ "instance-id": "lab-7" });
  });

  it("has credentials, and writes them to memory", async () => {
    const { stdout } = await pvbus("creds", "get", "alpha", "-t", "KVM");
    expect(stdout).to.equal("from fw_cfg");
    const { code, stderr } = await pvbus("creds", "export", "/run/creds", "-t", "KVM");
    expect(code, stderr).to.equal(0);
    expect(readdirSync("/run/creds").sort()).to.deep.equal(["alpha", "delta", "gamma", "line"]);
    expect(readFileSync("/run/creds/delta").toString("hex")).to.equal("00ff0102");
  });
});

describe("readiness over vsock", () => {
  /** Runs `ready` with an address in its credentials. */
  const ready = (address: string, ...args: readonly string[]) => {
    const directory = mkdtempSync("/run/credentials-");
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, "vmm.notify_socket"), address);
    process.env["CREDENTIALS_DIRECTORY"] = directory;
    return pvbus("ready", "-t", "KVM", "--json", ...args);
  };
  const signalOf = (stdout: string) =>
    (JSON.parse(stdout) as { signal: string; sent: boolean; detail: string }[]).find(
      ({ signal }) => signal === "vmm.notify_socket",
    );

  for (const type of ["stream", "seqpacket"] as const)
    for (const prefix of ["vsock", `vsock-${type}`])
      it(`reaches a listener of type ${type} at ${prefix}:`, async () => {
        const listener = listenVsock({ port: VMADDR_PORT_ANY, type });
        let from = 0;
        const heard = new Promise<string>((resolve, reject) => {
          const parts: Buffer[] = [];
          listener
            .accept(
              {
                bufferBytes: 4096,
                onPeer: ({ port }) => {
                  from = port;
                },
                onData: (data) => void parts.push(Buffer.from(data)),
                onEnd: () => resolve(Buffer.concat(parts).toString()),
              },
              new Call({ timeoutMs: SLOW_MS }),
            )
            .catch(reject);
        });
        const { stdout, stderr } = await ready(`${prefix}:1:${listener.port}`, "--status", "up");
        expect(signalOf(stdout), stderr).to.include({
          sent: true,
          detail: `vsock:1:${listener.port} as ${type}`,
        });
        expect(await heard).to.equal("READY=1\nSTATUS=up");
        expect(from).to.be.below(PRIVILEGED);
        listener.close();
      });

  it("does not reach a listener of another type than the address names, and says so", async () => {
    const listener = listenVsock({ port: VMADDR_PORT_ANY });
    const { stdout } = await ready(`vsock-seqpacket:1:${listener.port}`);
    expect(signalOf(stdout)).to.include({ sent: false });
    listener.close();
  });

  for (const [address, options] of [
    ["vsock-stream:1:", ""],
    ["vsock:1:", ",type=5"],
  ] as const)
    it(`wakes socat's VSOCK-LISTEN:PORT${options}`, async () => {
      const port = 7000 + options.length;
      const { child, printed } = listenWithSocat(port, options);
      await listening(child);
      const { stdout, stderr } = await ready(`${address}${port}`);
      expect(signalOf(stdout), stderr).to.include({ sent: true });
      expect(await printed).to.equal("READY=1\nSTATUS=Ready.");
    });
});

function listenWithSocat(port: number, options: string): { child: ChildProcess; printed: Promise<string> } {
  const child = spawn("socat", ["-d", "-d", "-u", `VSOCK-LISTEN:${port}${options}`, "STDOUT"], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  child.stdout.on("data", (data: Buffer) => {
    text += data;
  });
  return { child, printed: new Promise((resolve) => child.once("close", () => resolve(text))) };
}

function listening(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let text = "";
    child.stderr?.on("data", (data: Buffer) => {
      text += data;
      if (text.includes("listening on")) resolve();
    });
    child.once("close", () => reject(new Error(text)));
    child.once("error", reject);
  });
}
