import type { Command, CommandGroup } from "../contract/command.js";
import { completion } from "./commands/completion.js";
import { creds } from "./commands/creds.js";
import { demo } from "./commands/demo.js";
import { detect } from "./commands/detect.js";
import { doctor } from "./commands/doctor.js";
import { get } from "./commands/get.js";
import { info } from "./commands/info.js";
import { ls } from "./commands/ls.js";
import { chmod } from "./commands/permissions.js";
import { portable } from "./commands/portable.js";
import { ready } from "./commands/ready.js";
import { rm } from "./commands/rm.js";
import { set } from "./commands/set.js";
import { snapshot } from "./commands/snapshot.js";
import { sync } from "./commands/sync.js";
import { take } from "./commands/take.js";
import { userdata } from "./commands/userdata.js";
import { watch } from "./commands/watch.js";
import type { Context } from "./io/context.js";

/** The commands of pvbus itself; those of providers stand in their manifests. */
export const COMMANDS: readonly (Command<Context> | CommandGroup<Context>)[] = [
  detect,
  get,
  set,
  rm,
  ls,
  watch,
  take,
  sync,
  chmod,
  info,
  userdata,
  ready,
  creds,
  doctor,
  snapshot,
  portable,
  demo,
  completion,
];
