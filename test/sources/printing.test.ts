import { expect } from "chai";
import type ts from "typescript";
import { everyNode, nameOf, parsedSources, TS } from "../support/sources.js";

/** Who has a node that a look finds. */
function usersOf(look: (node: ts.Node) => boolean): string[] {
  const users = parsedSources().filter((file) => {
    let has = false;
    everyNode(file, (node) => {
      has ||= look(node);
    });
    return has;
  });
  return users.map(nameOf).sort();
}

const isMember = (node: ts.Node, object: RegExp, member: RegExp): boolean =>
  TS.isPropertyAccessExpression(node) &&
  object.test(node.expression.getText()) &&
  member.test(node.name.text);
const isCall = (node: ts.Node, name: RegExp): boolean =>
  TS.isCallExpression(node) && name.test(node.expression.getText());
/** A member of that name, taken by a dot or apart; not a variable, which may be a thread's stack. */
const isStackOfAnError = (node: ts.Node): boolean =>
  isMember(node, /./, /^stack$/) ||
  (TS.isBindingElement(node) &&
    TS.isObjectBindingPattern(node.parent) &&
    /^stack$/.test((node.propertyName ?? node.name).getText()));

describe("what is printed", function () {
  this.timeout(120_000);

  it("goes through one sink: nobody has Node's own streams or console", () => {
    expect(
      usersOf((node) => isMember(node, /(^|\.)process$/, /^(stdout|stderr|_rawDebug|report)$/)),
    ).to.deep.equal(
      // Asks whether it is a terminal.
      ["src/cli/io/process.ts"],
    );
    expect(usersOf((node) => TS.isIdentifier(node) && node.text === "console")).to.deep.equal([]);
  });

  it("is written to descriptors by that sink alone; others write to files and pipes of their own", () => {
    const inFaces = (names: readonly string[]): string[] =>
      names.filter((name) => /^src\/(cli|testing)\/|^providers\/(\w+\/testing\/|testing)/.test(name));
    const writes = usersOf((node) => isCall(node, /(^|\.)writev?Sync$/));
    expect(inFaces(writes).sort()).to.deep.equal([
      // The pool files that the simulated host writes.
      "providers/hyperv/testing/host.ts",
      // A process of its own that says "ready".
      "providers/hyperv/testing/kvp-device/fuse-server.ts",
      // Writes the file that -o names.
      "src/cli/hostctl/run.ts",
      "src/cli/io/process.ts",
      // Tells the parent on a pipe how the start went.
      "src/cli/io/service.ts",
    ]);
    const byNumber = usersOf(
      (node) =>
        TS.isCallExpression(node) &&
        /(^|\.)(writeSync|writevSync|writeFileSync|appendFileSync|createWriteStream)$/.test(
          node.expression.getText(),
        ) &&
        node.arguments.some((each) => /^[12]$|^"\/dev\/(std(out|err)|tty|fd\/[12])"$/.test(each.getText())),
    );
    expect(byNumber).to.deep.equal(["providers/hyperv/testing/kvp-device/fuse-server.ts"]);
  });

  it("is escaped there: who opens the raw sink hands it to what wraps it", () => {
    expect(usersOf((node) => isCall(node, /^descriptorSink$/))).to.deep.equal([
      "src/cli/hostctl-main.ts",
      "src/cli/io/process.ts",
      "src/cli/pvbus-main.ts",
    ]);
    expect(usersOf((node) => isCall(node, /^printed$/))).to.deep.equal([
      "src/cli/hostctl/run.ts",
      "src/cli/io/process.ts",
      "src/cli/program.ts",
    ]);
  });

  it("shows no stack but by stackText or in JSON", () => {
    expect(usersOf(isStackOfAnError).filter((name) => name.startsWith("src/"))).to.deep.equal([
      "src/cli/io/output.ts",
      "src/cli/io/process.ts",
      "src/cli/program.ts",
    ]);
  });

  it("reaches the system's log by the logger that escapes", () => {
    expect(usersOf((node) => isCall(node, /^openSyslog$/))).to.deep.equal(["src/cli/io/service.ts"]);
  });

  it("and variables of the environment come from where a setuid process has none", () => {
    expect(usersOf((node) => isMember(node, /(^|\.)process$/, /^env$/))).to.deep.equal([
      // Hands all of it to a simulator's process.
      "providers/hyperv/testing/kvp-device/simulator.ts",
    ]);
  });
});
