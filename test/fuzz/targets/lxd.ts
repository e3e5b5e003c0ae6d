import {
  decodeInstance,
  decodeKeys,
  decodeMetaData,
  keyOfEvent,
} from "../../../providers/lxd/protocol/answers.js";
import { checkKey, isBelow, isVisible, pathOf } from "../../../providers/lxd/protocol/keys.js";
import { PvbusError } from "../../../src/base/errors.js";
import type { Input } from "../input.js";
import { holds, same, type Target } from "../target.js";

/** What a peer answers: a description, a list, a document, an event. */
function answer(input: Input): void {
  const kind = input.below(4);
  const bytes = input.rest();
  if (kind === 0)
    holds(/^(container|virtual-machine)$/.test(decodeInstance(bytes).type), "an instance of another kind");
  else if (kind === 1) {
    const keys = decodeKeys(bytes);
    holds(keys.every(isVisible), "a key that no guest sees");
    same(Buffer.from(String(new Set(keys).size)), Buffer.from(String(keys.length)), "the number of keys");
  } else if (kind === 2) {
    const { id = "", name = "" } = decodeMetaData(bytes.toString("utf8"));
    holds(!/[\r\n]/.test(id + name), "a field of several lines");
  } else {
    const key = keyOfEvent(bytes.toString("utf8"));
    holds(key === undefined || isVisible(key), "an event of a key that no guest sees");
  }
}

/** A key gets into a path that stands for it alone. */
function keyPath(input: Input): void {
  const key = input.pick(["user.", "cloud-init.", ""]) + input.text();
  try {
    checkKey(key);
  } catch (error) {
    holds(PvbusError.is(error), "an error of another kind");
    return;
  }
  if (!key.isWellFormed() || key === "meta-data") return;
  const once = pathOf(key, "container");
  holds(/^\/1\.0\/config\/[\w.~%!'()*-]*$/.test(once), "a path with something else in it");
  holds(decodeURIComponent(once.slice("/1.0/config/".length)) === key, "a path of another key");
  const twice = pathOf(key, "virtual-machine").slice("/1.0/config/".length);
  holds(decodeURIComponent(decodeURIComponent(twice)) === key, "a path of another key in a machine");
  holds(isBelow(key, "") && isBelow(key, key), "a key that is not below itself");
}

export const LXD: readonly Target[] = [
  {
    name: "lxd-answer",
    run: answer,
    seeds: () => [
      '\0{"state":"Started","api_version":"1.0","instance_type":"container","location":"vm"}\n',
      '\x01["/1.0/config/user.sp ace","/1.0/config/cloud-init.user-data","/1.0/config/limits.x"]\n',
      "\x02#cloud-config\ninstance-id: 52a46bec\nlocal-hostname: c1\n",
      '\x03{"type":"config","timestamp":"","metadata":{"key":"user.a","old_value":"blah","value":"\\u003c"}}\n',
    ],
  },
  {
    name: "lxd-key",
    run: keyPath,
    seeds: () => ["\0\0a/b", "\0\0p%41?x#y", "\x01\0user-data", "\x02\0meta-data"],
  },
];
