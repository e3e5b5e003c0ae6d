import { statSync } from "node:fs";
import { UsageError } from "../../../src/cli/io/context.js";
import { jsonText, visible, writeData, writeJson } from "../../../src/cli/io/output.js";
import { type LaunchDescription, loadKvmHost, type SizeOf } from "../../../src/services.js";
import { readDocument, usage } from "./documents.js";
import type { HostAction } from "./host.js";

/** `pvbus host qemu-args FILE`: QEMU's arguments, one a line, or a JSON array. */
export async function qemuAction(action: HostAction): Promise<number> {
  const { qemuArguments } = await loadKvmHost();
  return writeArguments(action, qemuArguments);
}

/** `pvbus host cloud-hypervisor-args FILE`: Cloud Hypervisor's arguments, one a line, or a JSON array. */
export async function cloudHypervisorAction(action: HostAction): Promise<number> {
  const { cloudHypervisorArguments } = await loadKvmHost();
  return writeArguments(action, cloudHypervisorArguments);
}

/** `pvbus host libvirt-xml FILE`: the elements to add to a domain, each with the place it goes to. */
export async function libvirtAction(action: HostAction): Promise<number> {
  const { stdout, options } = action.context;
  const { libvirtParts } = await loadKvmHost();
  const parts = libvirtParts(await descriptionOf(action), sizeOf);
  if (options.json === true) writeJson(stdout, parts);
  else {
    for (const { into, xml } of parts) {
      const place = into === "" ? "<domain>" : `<${into}> of the domain`;
      writeData(stdout, `<!-- into ${place} -->\n${xml}\n`);
    }
  }
  return 0;
}

async function writeArguments(
  action: HostAction,
  make: (description: LaunchDescription, sizeOf: SizeOf) => string[],
): Promise<number> {
  const { stdout, options } = action.context;
  const made = make(await descriptionOf(action), sizeOf);
  if (options.json === true) writeJson(stdout, made);
  else {
    const broken = made.find((each) => each.includes("\n"));
    if (broken !== undefined) {
      const start = visible(broken.slice(0, 60));
      throw new UsageError(`an argument holds a line end (${start}…), so lines cannot show it: use --json`);
    }
    for (const each of made) writeData(stdout, `${each}\n`);
  }
  return 0;
}

/** Reads the description, and says how its channel is served. */
async function descriptionOf({
  args: [path = ""],
  context: { stderr, options },
}: HostAction): Promise<LaunchDescription> {
  const { parseDescription, endpointText } = await loadKvmHost();
  const document = await readDocument(path);
  const description = usage(() => parseDescription(document));
  const endpoint = description.channel && endpointText(description.channel.endpoint);
  if (endpoint !== undefined) {
    const serve = `pvbus host serve --state DIR --guest NAME=${endpoint}`;
    stderr.write(
      options.json === true ? `${jsonText({ serve })}\n` : `pvbus: serve its channel: ${visible(serve)}\n`,
    );
  }
  return description;
}

const sizeOf: SizeOf = (path) => {
  const found = statSync(path, { throwIfNoEntry: false });
  return found?.isFile() ? found.size : undefined;
};
