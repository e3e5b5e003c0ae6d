import { join } from "node:path";
import { expect } from "chai";
import type ts from "typescript";
import { ROOT } from "../support/pools.js";
import {
  everyNode,
  nameOf,
  placeOf,
  TS,
  type TypedSources,
  typedSources,
  typedText,
} from "../support/sources.js";

/** The one place that asks an object for a name; it asks for the object's own. */
const HELPER = "src/base/own.ts";
/** Types whose values a name may reach: `as` says what nobody has checked. */
const FROM_OUTSIDE =
  TS.TypeFlags.String | TS.TypeFlags.TemplateLiteral | TS.TypeFlags.Any | TS.TypeFlags.Unknown;

function mayBeAnyText(checker: ts.TypeChecker, name: ts.Expression): boolean {
  const inner = TS.isParenthesizedExpression(name) ? name.expression : name;
  if (TS.isAsExpression(inner)) return mayBeAnyText(checker, inner.expression);
  const type = checker.getTypeAtLocation(inner);
  const parts = type.isUnion() ? type.types : [type];
  return parts.some((part) => (part.flags & FROM_OUTSIDE) !== 0 || part.flags === TS.TypeFlags.StringMapping);
}

/** Returns every place that asks an object for a member by a text that may be any, or sets one. */
function offences({ checker, files }: TypedSources): string[] {
  const found: string[] = [];
  for (const file of files) {
    if (nameOf(file) === HELPER) continue;
    everyNode(file, (node) => {
      const by = (name: ts.Expression): boolean =>
        !TS.isStringLiteralLike(name) && !TS.isNumericLiteral(name) && mayBeAnyText(checker, name);
      const isOffence =
        (TS.isElementAccessExpression(node) && by(node.argumentExpression)) ||
        (TS.isBinaryExpression(node) &&
          node.operatorToken.kind === TS.SyntaxKind.InKeyword &&
          !TS.isPrivateIdentifier(node.left) &&
          by(node.left)) ||
        TS.isForInStatement(node) ||
        (TS.isBindingElement(node) &&
          node.propertyName !== undefined &&
          TS.isComputedPropertyName(node.propertyName) &&
          by(node.propertyName.expression));
      if (isOffence) found.push(`${placeOf(node)} ${node.getText().split("\n", 1)[0]}`);
    });
  }
  return found;
}

describe("names from outside", function () {
  this.timeout(120_000);

  it("reach objects by ownEntry and putEntry alone: constructor and __proto__ are names as any other", () => {
    const typed = typedSources();
    expect(typed.files.length).to.be.greaterThan(200);
    expect(offences(typed)).to.deep.equal([]);
  });

  it("are found where a rule of this kind is broken", () => {
    const path = join(ROOT, "src/rule.ts");
    const text = `
      declare const table: Record<string, number>, list: number[], kind: "a" | "b", name: string, at: number;
      export const right = [list[at], table["a"], { a: 1, b: 2 }[kind]];
      export const wrong = [table[name], table[name as "a"], table[\`x\${at}\`], name in table];
      table[name] = 1;
      export const { [name]: taken } = table;
      for (const each in table) console.log(each);
    `;
    const places = offences(typedText(path, text)).map((each) => each.split(" ", 1)[0]);
    expect(places).to.deep.equal([4, 4, 4, 4, 5, 6, 7].map((line) => `src/rule.ts:${line}`));
  });
});
