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

export const qemuAction = writing(qemuArguments);
export const cloudHypervisorAction = writing(cloudHypervisorArguments);

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

/** Writes arguments, one a line, or as a JSON array. */
function writing(make: (description: LaunchDescription, sizeOf: SizeOf) => string[]) {
  return async (io: CommandIo, args: readonly string[]): Promise<number> => {
    const made = make(await descriptionOf(io, args), sizeOf);
    const broken = made.find((each) => each.includes("\n"));
    if (io.json) io.writeJson(made);
    else if (broken === undefined) for (const each of made) io.writeData(`${each}\n`);
    else {
      const what = `an argument holds a line end (${broken.slice(0, 60)}…), so lines cannot show it`;
      throw io.usage(`${what}: use --json`);
    }
    return 0;
  };
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
