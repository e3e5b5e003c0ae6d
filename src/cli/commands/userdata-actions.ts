import { isUtf8 } from "node:buffer";
import type { BootDataKind } from "../../contract/boot-data.js";
import { writeNoCloudSeed } from "../../tools/nocloud.js";
import { BOOT_DATA_KINDS, type BootDataValue, listBootData, lookFor } from "../../tools/userdata.js";
import { UsageError } from "../grammar/usage.js";
import { type Context, withBus } from "../io/context.js";
import { visible, writeEach, writeError } from "../io/output.js";
import { trustOf } from "../io/trust.js";

type Own = Readonly<Record<string, unknown>>;

/** `pvbus userdata list`: a line for each place that has something, or a JSON array. */
export function listAction(context: Context, _args: readonly string[], own: Own): Promise<number> {
  return withBus(context, async (bus) => {
    const seen = new Set<BootDataKind>();
    await writeEach(context.stdout, listBootData(bus, optionsOf(context, own)), {
      json: context.json
        ? (look) => {
            const { kind, store, interface: on, key, consumer } = look;
            const source = { kind, store, interface: on, key, consumer };
            if ("error" in look)
              return { ...source, error: { code: look.error.code, message: look.error.message } };
            if ("absent" in look) return { ...source, absent: look.absent };
            const used = !seen.has(kind);
            seen.add(kind);
            return { ...described(look), consumer, used };
          }
        : undefined,
      line: (look) => {
        const place = `${look.kind}\t${look.store}\t${look.interface}\t${visible(look.key)}`;
        if ("error" in look) return `${place}\t${look.error.code}: ${visible(look.error.message)}`;
        if ("absent" in look) return `${place}\tnothing: ${look.absent}`;
        return `${place}\t${visible(look.encoding)}, ${look.value.length} bytes`;
      },
    });
    return 0;
  });
}

/** `pvbus userdata get KIND`: the decoded bytes as they are, nothing behind them; exit 1 where there are none. */
export function getAction(context: Context, [kind = ""]: readonly string[], own: Own): Promise<number> {
  if (!isKind(kind)) throw new UsageError(`userdata get takes a kind: ${BOOT_DATA_KINDS.join(", ")}`);
  return withBus(context, async (bus) => {
    const { found, removed } = await lookFor(bus, kind, optionsOf(context, own));
    if (found === undefined) {
      const hints = removed.map(({ key, absent }) => ` (${key}: ${absent})`).join("");
      const message = `the host gives no ${kind}${hints}`;
      if (context.json) writeError(context.stderr, { code: null, message, interface: null, key: null });
      else context.stderr.write(`pvbus: ${visible(message)}\n`);
      return 1;
    }
    const { value, warning } = found;
    if (warning !== undefined)
      context.complain({ message: warning, interface: found.interface, key: found.key });
    if (!context.json) context.writeData(value);
    else {
      const bytes = Buffer.from(value);
      const data = isUtf8(value)
        ? { value: bytes.toString("utf8") }
        : { valueBase64: bytes.toString("base64") };
      context.writeJson({ ...described(found), ...data });
    }
    return 0;
  });
}

/** `pvbus userdata nocloud DIR`: writes a seed; exit 1 where the host gives no data, with `--wait` 0. */
export function nocloudAction(
  context: Context,
  [directory = ""]: readonly string[],
  own: Own,
): Promise<number> {
  const wait = own["wait"] === true;
  return withBus(context, async (bus) => {
    const {
      outcome,
      instanceId = null,
      files,
    } = await writeNoCloudSeed(bus, directory, {
      ...optionsOf(context, own),
      wait,
    });
    if (context.json) context.writeJson({ directory, outcome, instanceId, files });
    else if (outcome === "nothing")
      context.say("the host gives no boot configuration; no seed was written", {});
    else context.write(`${outcome}: ${visible(directory)} (${files.join(", ")})\n`);
    return outcome === "nothing" && !wait ? 1 : 0;
  });
}

function described({
  kind,
  store,
  interface: on,
  key,
  encoding,
  value,
  sha256,
}: BootDataValue): Record<string, unknown> {
  return { kind, store, interface: on, key, encoding, bytes: value.length, sha256 };
}

function optionsOf({ call, options: { interface: name, type } }: Context, own: Own) {
  const from = own["from"] as string | undefined;
  return {
    ...call,
    ...trustOf(own),
    interface: name,
    type,
    asIs: own["as-is"] === true,
    ...(from === undefined ? {} : { from }),
  };
}

function isKind(text: string): text is BootDataKind {
  return BOOT_DATA_KINDS.some((each) => each === text);
}
