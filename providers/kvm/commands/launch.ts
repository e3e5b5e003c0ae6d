import { statSync } from "node:fs";
import type { CommandIo } from "../../../src/contract/command.js";
import {
  cloudHypervisorArguments,
  endpointText,
  type LaunchDescription,
  libvirtParts,
  parseDescription,
  qemuArguments,
  type SizeOf,
} from "../host/index.js";
import { readDocument, usage } from "./documents.js";

/** `pvbus host qemu-args FILE`: QEMU's arguments, one a line, or a JSON array. */
export function qemuAction(io: CommandIo, args: readonly string[]): Promise<number> {
  return writeArguments(io, args, qemuArguments);
}

/** `pvbus host cloud-hypervisor-args FILE`: Cloud Hypervisor's arguments, one a line, or a JSON array. */
export function cloudHypervisorAction(io: CommandIo, args: readonly string[]): Promise<number> {
  return writeArguments(io, args, cloudHypervisorArguments);
}

/** `pvbus host libvirt-xml FILE`: the elements to add to a domain, each with the place it goes to. */
export async function libvirtAction(io: CommandIo, args: readonly string[]): Promise<number> {
  const parts = libvirtParts(await descriptionOf(io, args), sizeOf);
  if (io.json) io.writeJson(parts);
  else {
    for (const { into, xml } of parts) {
      const place = into === "" ? "<domain>" : `<${into}> of the domain`;
      io.writeData(`<!-- into ${place} -->\n${xml}\n`);
    }
  }
  return 0;
}

async function writeArguments(
  io: CommandIo,
  args: readonly string[],
  make: (description: LaunchDescription, sizeOf: SizeOf) => string[],
): Promise<number> {
  const made = make(await descriptionOf(io, args), sizeOf);
  if (io.json) io.writeJson(made);
  else {
    const broken = made.find((each) => each.includes("\n"));
    if (broken !== undefined)
      throw io.usage(
        `an argument holds a line end (${broken.slice(0, 60)}…), so lines cannot show it: use --json`,
      );
    for (const each of made) io.writeData(`${each}\n`);
  }
  return 0;
}

/** Reads the description, and says how its channel is served. */
async function descriptionOf(io: CommandIo, [path = ""]: readonly string[]): Promise<LaunchDescription> {
  const document = await readDocument(io, path);
  const description = usage(io, () => parseDescription(document));
  const endpoint = description.channel && endpointText(description.channel.endpoint);
  if (endpoint !== undefined) {
    const serve = `pvbus host serve --state DIR --guest NAME=${endpoint}`;
    io.say(`serve its channel: ${serve}`, { serve });
  }
  return description;
}

const sizeOf: SizeOf = (path) => {
  const found = statSync(path, { throwIfNoEntry: false });
  return found?.isFile() ? found.size : undefined;
};
