import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { pause } from "../../../src/base/flow/abort.js";
import { Call } from "../../../src/base/flow/call.js";
import { RunningCommand } from "../../../src/tools/sync/command.js";
import { RepeatedCommand } from "../../../src/tools/sync/repeated-command.js";
import { codeOf } from "../../support/memory-interface.js";

let place: string;
beforeEach(() => {
  place = mkdtempSync(join(tmpdir(), "pvbus-command-"));
});
afterEach(() => rmSync(place, { recursive: true }));

const file = (name: string): string => join(place, name);
const sh = (script: string): string[] => ["sh", "-c", script, "sh", place];
/** Shell: leaves a process in the background that no polite signal ends, and writes down which. */
const STUBBORN = `sh -c 'trap "" TERM; echo $$ >"$1/stubborn.new"; mv "$1/stubborn.new" "$1/stubborn"; exec sleep 600' sh "$1" &
while ! test -e "$1/stubborn"; do sleep 0.01; done`;

/** Waits for a file; what writes it has no other way to tell. */
async function written(name: string): Promise<string> {
  while (!existsSync(file(name))) await pause(5);
  return readFileSync(file(name), "utf8");
}

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    // One that nobody has waited for yet is dead all the same.
    return !/^\S+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
};

async function gone(pid: number): Promise<void> {
  while (isAlive(pid)) await pause(5);
}

describe("a command that a sync runs", () => {
  it("is run without a shell, with nothing to read", async () => {
    await new RunningCommand([
      "sh",
      "-c",
      'printf "%s|" "$@" >"$0/args"; cat >"$0/input"',
      place,
      "a b",
      "$HOME",
      ";",
    ]).done;
    expect(readFileSync(file("args"), "utf8")).to.equal("a b|$HOME|;|");
    expect(readFileSync(file("input"), "utf8")).to.equal("");
  });

  it("says how it has failed, or why it cannot be run", async () => {
    const why = async (command: readonly string[]): Promise<string> =>
      new RunningCommand(command).done.then(
        () => "nothing",
        (error: Error & { code: string }) => `${error.code} ${error.message}`,
      );
    expect(await why(sh("exit 3"))).to.equal('ERR_UNAVAILABLE the command "sh" has failed with 3');
    expect(await why(sh("kill -9 $$"))).to.equal('ERR_UNAVAILABLE the command "sh" was ended by SIGKILL');
    expect(await why([file("none")])).to.match(
      /^ERR_UNAVAILABLE the command ".*none" cannot be run: .*ENOENT/,
    );
    expect(await why(["sh", "-c", "x".repeat(3_000_000)])).to.match(
      /^ERR_UNAVAILABLE .* cannot be run: .*E2BIG/,
    );
  });

  it("leaves nothing of its group when it has failed", async () => {
    await codeOf(new RunningCommand(sh(`${STUBBORN}\nexit 1`)).done);
    await gone(Number(await written("stubborn")));
  });

  it("leaves what it has put into the background when it has not", async () => {
    const background = `sh -c 'trap "echo >$1/asked" TERM; echo $$ >"$1/up"; while :; do sleep 0.02; done' sh "$1" &
while ! test -s "$1/up"; do sleep 0.01; done`;
    const running = new RunningCommand(sh(background));
    await running.done;
    const pid = Number(await written("up"));
    try {
      await running.end();
      expect([isAlive(pid), existsSync(file("asked"))]).to.deep.equal([true, false]);
    } finally {
      process.kill(pid, "SIGKILL");
    }
  });

  it("is asked to end with its whole group, and killed when it does not listen", async () => {
    const running = new RunningCommand(sh(`trap "" TERM\n${STUBBORN}\nsleep 600 & wait; wait`), {
      killMs: 100,
    });
    const pid = Number(await written("stubborn"));
    await running.end();
    expect(isAlive(pid)).to.equal(false);
    expect(await codeOf(running.done)).to.equal("ERR_UNAVAILABLE");
  });

  it("has its time to end by itself", async () => {
    const script = `trap 'sleep 0.1; echo bye >"$1/bye"; exit 0' TERM; : >"$1/up"; while :; do sleep 0.02; done`;
    const running = new RunningCommand(sh(script), { killMs: 20_000 });
    await written("up");
    await running.end();
    expect(readFileSync(file("bye"), "utf8")).to.equal("bye\n");
  });
});

describe("a command that runs after each change", () => {
  const run = (script: string, settings: ConstructorParameters<typeof RepeatedCommand>[1] = {}) => {
    const end = new AbortController();
    const command = new RepeatedCommand(sh(script), settings);
    const ended = command.run(Call.endless(end.signal));
    return {
      changed: command.changed,
      end: async (): Promise<void> => {
        end.abort();
        await ended;
      },
    };
  };
  const lines = (name: string): number =>
    existsSync(file(name)) ? readFileSync(file(name), "utf8").split("\n").length - 1 : 0;
  const until = async (name: string, count: number): Promise<void> => {
    while (lines(name) < count) await pause(5);
  };

  it("runs once behind the changes that came while it ran", async () => {
    const { changed, end } = run(
      `echo >>"$1/runs"; while ! test -e "$1/go"; do sleep 0.01; done; echo >>"$1/ended"`,
    );
    changed();
    await until("runs", 1);
    for (let i = 0; i < 100; i++) changed();
    await new RunningCommand(["touch", file("go")]).done;
    await until("ended", 2);
    await end();
    expect([lines("runs"), lines("ended")]).to.deep.equal([2, 2]);
  });

  it("runs again after it has failed, and tells each failure", async () => {
    const failures: string[] = [];
    const onFailure = (error: unknown): number => failures.push((error as Error).message);
    const { changed, end } = run('echo >>"$1/runs"; exit 7', { onFailure });
    for (const count of [1, 2, 3]) {
      changed();
      await until("runs", count);
      while (failures.length < count) await pause(5);
    }
    await end();
    expect(failures).to.deep.equal(Array(3).fill('the command "sh" has failed with 7'));
  });

  it("is ended with its group when it hangs while the next change has come, and runs again", async () => {
    const failures: string[] = [];
    const { changed, end } = run(
      `echo >>"$1/runs"; test -e "$1/stubborn" && exit 0\ntrap "" TERM\n${STUBBORN}\nwait; sleep 600`,
      { graceMs: 50, killMs: 50, onFailure: (error) => failures.push((error as Error).message) },
    );
    changed();
    const pid = Number(await written("stubborn"));
    changed();
    await until("runs", 2);
    expect(isAlive(pid)).to.equal(false);
    await end();
    expect(failures).to.deep.equal(['the command "sh" hung, and was ended with all that it had started']);
  });

  it("ends with the sync, with its group, and that is no failure", async () => {
    const failures: unknown[] = [];
    const { changed, end } = run(`trap "" TERM\n${STUBBORN}\nwait; sleep 600`, {
      killMs: 50,
      onFailure: (error) => failures.push(error),
    });
    changed();
    const pid = Number(await written("stubborn"));
    await end();
    expect([isAlive(pid), failures]).to.deep.equal([false, []]);
  });
});
