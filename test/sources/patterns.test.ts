import { expect } from "chai";
import { everyNode, parsedSources, placeOf, TS } from "../support/sources.js";

/** Where the square of the length takes 0.2 s, and the length itself a fraction of a millisecond; before it what ends in time. */
const LENGTHS = [24, 300, 3_000, 12_000];
const LIMIT_MS = 60;
/** From here on a second look is taken, at a longer text. */
const SUSPICIOUS_MS = 1;
/** What no pattern ends with. */
const MISMATCHES = ["\u0001!", "\n\u0001"];
const MAX_PARTS = 150;

interface Pattern {
  readonly place: string;
  readonly regexp: RegExp;
}

/** Returns the patterns of the sources, each once. */
function patterns(): Pattern[] {
  const found = new Map<string, Pattern>();
  for (const file of parsedSources())
    everyNode(file, (node) => {
      if (!TS.isRegularExpressionLiteral(node)) return;
      const end = node.text.lastIndexOf("/");
      found.set(node.text, {
        place: placeOf(node),
        regexp: new RegExp(node.text.slice(1, end), node.text.slice(end + 1)),
      });
    });
  return [...found.values()];
}

const PROBES = [..."a0 A-./:;=@\"'_!\0\n\t\u0007\u00e9\u202e"];

/** A character that a class or an escape stands for. */
function characterOf(atom: string, flags: string): string {
  const one = new RegExp(`^(?:${atom})$`, flags.replace("g", ""));
  return PROBES.find((each) => one.test(each)) ?? [...atom].find((each) => one.test(each)) ?? "";
}

/** A text that goes through the whole pattern: the first of alternatives, what may be left out is there. */
function sampleOf({ source, flags }: RegExp): string {
  let text = "";
  let depth = 0;
  const atoms = /\\p\{\w+\}|\\x..|\\u....|\\.|\[(?:\\.|[^\]\\])+\]|\(\?<?[:=!]?(?:\w+>)?|\{\d+,?\d*\}|./gs;
  // The depth at which the second of some alternatives began.
  let over = Number.POSITIVE_INFINITY;
  for (const [atom] of source.matchAll(atoms)) {
    if (atom.startsWith("(")) depth++;
    else if (atom === ")") {
      depth--;
      if (depth < over) over = Number.POSITIVE_INFINITY;
    } else if (atom === "|") over = Math.min(over, depth);
    else if (depth < over && !/^([*+?^$]|\{\d.*|\\b)$/.test(atom)) text += characterOf(atom, flags);
  }
  return text;
}

/** Fronts and parts to repeat behind them: pieces of what matches, and characters that the pattern names. */
function attacks(regexp: RegExp): [front: string, part: string][] {
  const pieces: [front: string, part: string][] = [..."\0\n\t -./:;=@\"'0a", ...new Set(regexp.source)].map(
    (each) => ["", each],
  );
  const text = sampleOf(regexp).slice(0, 40);
  for (let at = 0; at < text.length; at++)
    for (const length of at === 0 ? Array.from(text, (_, i) => i + 1) : [1, 2, text.length - at])
      pieces.unshift([text.slice(0, at), text.slice(at, at + length)]);
  const texts: [string, string][] = [];
  for (const [front, part] of pieces) {
    if (part === "" || texts.length >= MAX_PARTS) continue;
    texts.push([front, part]);
  }
  return texts;
}

/** Returns what a match takes of the processor, which other programs leave alone. */
function millisecondsOf(regexp: RegExp, text: string): number {
  const start = process.cpuUsage();
  regexp.lastIndex = 0;
  regexp.exec(text);
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000;
}

/** The lesser of two: the pattern may be compiled in between, or memory tidied up. */
function leastOf(regexp: RegExp, text: string): number {
  return Math.min(millisecondsOf(regexp, text), millisecondsOf(regexp, text));
}

/** Whether some text takes more than its length. */
function isSlow(regexp: RegExp): boolean {
  const all = attacks(regexp);
  for (const length of LENGTHS)
    for (const [front, part] of all)
      for (const end of MISMATCHES) {
        const textOf = (size: number): string => front + part.repeat(Math.ceil(size / part.length)) + end;
        const text = textOf(length);
        if (millisecondsOf(regexp, text) < SUSPICIOUS_MS) continue;
        const least = leastOf(regexp, text);
        if (least > LIMIT_MS) return true;
        // Four times as long, sixteen times as slow.
        if (least > SUSPICIOUS_MS && leastOf(regexp, textOf(4 * length)) > 8 * least) return true;
      }
  return false;
}

describe("regular expressions", function () {
  this.timeout(120_000);

  it("are literals, which can be judged", () => {
    const made: string[] = [];
    for (const file of parsedSources())
      everyNode(file, (node) => {
        const isMade =
          (TS.isNewExpression(node) || TS.isCallExpression(node)) && node.expression.getText() === "RegExp";
        if (isMade) made.push(placeOf(node));
      });
    expect(made).to.deep.equal([]);
  });

  it("take time in proportion to the text, whatever it is", () => {
    const all = patterns();
    expect(all.length).to.be.greaterThan(100);
    expect(all.filter(({ regexp }) => isSlow(regexp)).map(({ place }) => place)).to.deep.equal([]);
  });

  it("are found slow when they are", () => {
    const slow = [
      /\0+$/,
      /Cannot update the ".*" Namespace/,
      /(\d+)\.(\d+)\.(\d+)\.(\d+)$/,
      /\s+$/,
      /^(a+)+$/,
    ];
    expect(slow.filter((each) => !isSlow(each))).to.deep.equal([]);
  });
});
