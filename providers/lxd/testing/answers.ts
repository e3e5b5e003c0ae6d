import type { InstanceType } from "../protocol/keys.js";
import type { LxdFaults, LxdRequest } from "./faults.js";

/** The instance that is simulated. */
export interface SimulatedInstance {
  readonly product: "incus" | "lxd";
  readonly type: InstanceType;
  readonly name: string;
  readonly location: string;
  readonly keys: Map<string, string>;
  isEnabled: boolean;
  state: string;
}

/** One answer. */
export interface Reply {
  readonly status: number;
  readonly type: string;
  readonly body: string;
  readonly location?: string;
  /** What is sent in place of an answer of HTTP's usual form. */
  readonly raw?: string;
  /** Whether the connection ends behind that. */
  readonly ends?: boolean;
}

const TEXT = "text/plain; charset=utf-8";
const JSON_TYPE = "application/json";
const BYTES = "application/octet-stream";
const VISIBLE = /^(?:user|cloud-init)\./;
const INSTANCE_ID = "52a46bec-c2bf-471e-bc8c-f59f825e1aad";
const STREAM_HEAD =
  "HTTP/1.1 200 OK\nConnection: keep-alive\nContent-Type: application/json\nX-Content-Type-Options: nosniff\n\n";

const text = (status: number, body: string): Reply => ({ status, type: TEXT, body });
const json = (value: unknown): Reply => ({
  status: 200,
  type: JSON_TYPE,
  body: `${JSON.stringify(value)}\n`,
});
const NO_PAGE = text(404, "404 page not found\n");

/** Returns what the real daemon, or a machine's agent, answers. */
export function answerTo(
  instance: SimulatedInstance,
  faults: LxdFaults,
  { method, path: asked, upgrade }: LxdRequest,
  body: string,
): Reply {
  const { product, type } = instance;
  const path = asked.split("?", 1)[0] ?? "";
  if (faults.notInside === true) return text(500, "pid not in container?\n");
  if (faults.notRoot === true) return text(401, "Access denied for non-root user\n");
  if (path === "/") return json(["/1.0"]);
  if (!instance.isEnabled && type === "container") return text(403, "not authorized\n");
  if (path.includes("//") || path.includes("/../") || path.includes("/./"))
    return { status: 301, type: "text/html; charset=utf-8", body: "", location: path.replace(/\/+/g, "/") };
  if (path === "/1.0/events") {
    if (upgrade) return { status: 101, type: "", body: "" };
    return { status: 200, type: JSON_TYPE, body: "", raw: STREAM_HEAD };
  }
  if (faults.hostIsAway === true && type === "virtual-machine")
    return text(
      500,
      "Failed connecting to host over vsock: dial vsock host(2):8443: connect: connection timed out\n",
    );
  if (path === "/1.0") return ofInstance(instance, method, body);
  if (path === "/1.0/config")
    return json(
      shuffled([...instance.keys.keys()].filter((key) => VISIBLE.test(key))).map(
        (key) => `/1.0/config/${key}`,
      ),
    );
  if (path === "/1.0/meta-data") {
    const added = instance.keys.get("user.meta-data") ?? "";
    return {
      status: 200,
      type: BYTES,
      body: `#cloud-config\ninstance-id: ${INSTANCE_ID}\nlocal-hostname: ${instance.name}\n${added}`,
    };
  }
  if (path === "/1.0/devices") return json({ root: { path: "/", pool: "default", type: "disk" } });
  if (!path.startsWith("/1.0/config/") || path === "/1.0/config/") return NO_PAGE;
  const encoded = path.slice("/1.0/config/".length);
  // A bare slash is a path of its own.
  if (encoded.includes("/")) return NO_PAGE;
  const once = decoded(encoded);
  if (once === undefined)
    return {
      status: 400,
      type: TEXT,
      body: "",
      raw: "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request",
      ends: true,
    };
  if (type === "virtual-machine" && product === "incus") return throughAgent(instance, once);
  return ofKey(instance, once);
}

/** The agent puts the key into its own request as it is. */
function throughAgent(instance: SimulatedInstance, once: string): Reply {
  const bare = once.split(/[?#]/, 1)[0] ?? "";
  const failed = (why: string): Reply =>
    text(500, `Failed to fetch https://custom.socket/1.0/config/${once}: ${why}\n`);
  if (once.includes("\n")) return failed("invalid control character in URL");
  if (bare.includes("/")) return failed("404 Not Found");
  const twice = decoded(bare);
  return twice === undefined ? failed("invalid URL escape") : ofKey(instance, twice);
}

function ofKey({ keys }: SimulatedInstance, key: string): Reply {
  if (!VISIBLE.test(key)) return text(403, "not authorized\n");
  const value = keys.get(key);
  return value === undefined ? text(404, "not found\n") : { status: 200, type: BYTES, body: value };
}

function ofInstance(instance: SimulatedInstance, method: string, body: string): Reply {
  const { product, type, state, location } = instance;
  const described = json({ state, api_version: "1.0", instance_type: type, location });
  if (product === "lxd" || method === "GET") return described;
  if (method !== "PATCH")
    return text(type === "container" ? 405 : 400, `method ${JSON.stringify(method)} not allowed\n`);
  if (body === "") return text(400, "EOF\n");
  let wanted: unknown;
  try {
    wanted = (JSON.parse(body) as { state?: unknown }).state;
  } catch {
    return text(400, "invalid character 'o' in literal null (expecting 'u')\n");
  }
  if (wanted !== "Ready" && wanted !== "Started")
    return text(400, `Invalid state ${JSON.stringify(wanted ?? "")}\n`);
  instance.state = wanted;
  return { status: 200, type: BYTES, body: "" };
}

function decoded(encoded: string): string | undefined {
  try {
    return decodeURIComponent(encoded);
  } catch {
    return undefined;
  }
}

/** The order is another one with each request. */
function shuffled<T>(values: T[]): T[] {
  for (let at = values.length - 1; at > 0; at--) {
    const other = Math.floor(Math.random() * (at + 1));
    [values[at], values[other]] = [values[other] as T, values[at] as T];
  }
  return values;
}
