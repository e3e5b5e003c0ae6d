/**
 * A provisioning agent, the same on every hypervisor: it waits for its role, takes its secret, reads a long configuration, and
 * tells the host how it went. In a real machine it needs no arguments; a store may be named by its type and channel, as with
 * `pvbus -t TYPE --channel CHANNEL`.
 */
import { openPvbus } from "pvbus";

const [type, channel] = process.argv.slice(2);
await using bus = await openPvbus(type === undefined ? {} : { interfaces: [{ type, channel }] });
const agent = bus.portable("com.example.agent");

const role = await agent.wait("role", { timeoutMs: 60_000 });
console.log(`role: ${role}`);
const secret = await agent.take("secret");
console.log(`secret: ${secret?.value.length ?? 0} bytes`);
const config = await agent.getBytes("config");
console.log(`config: ${config?.length ?? 0} bytes`);

const report = Array.from({ length: 400 }, (_, at) => `check ${at + 1}: passed`).join("\n");
await agent.publish("report", report);
await agent.publish("status", `${role} is up`);
console.log(`report: ${Buffer.byteLength((await agent.published("report")) ?? "")} bytes`);
console.log(`status: ${await agent.published("status")}`);
