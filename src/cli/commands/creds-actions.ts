import {
  type CredentialReport,
  type CredentialSource,
  getCredential,
  listCredentials,
} from "../../tools/credentials.js";
import { exportCredentials } from "../../tools/credentials-export.js";
import { type Context, withBus } from "../io/context.js";
import { visible, writeError } from "../io/output.js";
import { trustOf } from "../io/trust.js";

type Own = Readonly<Record<string, unknown>>;

/** `pvbus creds list`: a line for each, or JSON; what is no credential, and what could not be read, on standard error. */
export function listAction(context: Context, _args: readonly string[], own: Own): Promise<number> {
  return withBus(context, async (bus) => {
    const report = await listCredentials(bus, optionsOf(context, own));
    if (context.json) context.writeJson(documentOf(report));
    else {
      for (const { name, value, shadowed, ...source } of report.credentials) {
        const hidden = shadowed.map((each) => `, shadows ${placeOf(each)}`).join("");
        context.write(`${visible(name)}\t${placeOf(source)}\t${value.length} bytes${hidden}\n`);
      }
    }
    tellSkipped(context, report);
    return report.unreadable.length === 0 ? 0 : 1;
  });
}

/** `pvbus creds get NAME`: the bytes, nothing behind them; exit 1 when there is no such credential. */
export function getAction(context: Context, [name = ""]: readonly string[], own: Own): Promise<number> {
  return withBus(context, async (bus) => {
    const value = await getCredential(bus, name, optionsOf(context, own));
    if (value === undefined) {
      const message = `no such credential: ${name}`;
      if (context.json) writeError(context.stderr, { code: null, message, interface: null, key: name });
      else context.stderr.write(`pvbus: ${visible(message)}\n`);
      return 1;
    }
    if (context.json) context.writeJson({ name, valueBase64: Buffer.from(value).toString("base64") });
    else context.writeData(value);
    return 0;
  });
}

/** `pvbus creds export DIR`: writes all of them. */
export function exportAction(
  context: Context,
  [directory = ""]: readonly string[],
  own: Own,
): Promise<number> {
  return withBus(context, async (bus) => {
    const onDisk = own["on-disk"] === true;
    const report = await exportCredentials(bus, directory, { ...optionsOf(context, own), onDisk });
    if (context.json) context.writeJson({ directory, ...documentOf(report) });
    else context.write(`${report.credentials.length} credentials: ${visible(directory)}\n`);
    tellSkipped(context, report);
    return 0;
  });
}

function documentOf({ credentials, skipped, unreadable }: CredentialReport): Record<string, unknown> {
  return {
    credentials: credentials.map(({ name, value, shadowed, ...source }) => ({
      name,
      ...sourceOf(source),
      bytes: value.length,
      shadowed: shadowed.map(sourceOf),
    })),
    skipped: skipped.map(({ why, ...source }) => ({ ...sourceOf(source), why })),
    unreadable: unreadable.map(({ source, error: { code, message } }) => ({ source, code, message })),
  };
}

function sourceOf({ source, place, interface: on }: CredentialSource): Record<string, unknown> {
  return { source, place, interface: on ?? null };
}

function placeOf({ source, place }: CredentialSource): string {
  return `${source} (${visible(place)})`;
}

function tellSkipped(context: Context, { skipped, unreadable }: CredentialReport): void {
  if (context.json) return;
  for (const { why, ...source } of skipped)
    context.complain({ message: `left out: ${source.source} (${source.place}): ${why}` });
  for (const { source, error } of unreadable)
    context.complain({
      message: `${source}: ${error.message}`,
      code: error.code,
      interface: error.interface,
    });
}

function optionsOf(context: Context, own: Own) {
  const { interface: name, type } = context.options;
  return { ...context.call, ...trustOf(own), interface: name, type, host: context.host() };
}
