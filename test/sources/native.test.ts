import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";

/** Only these call C functions. */
const FOLDER = "src/native";
const SOURCES = readdirSync(FOLDER, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".ts"))
  .map((name) => join(FOLDER, name));

/** Who uses what a pattern finds. */
function usersOf(pattern: RegExp): string[] {
  return SOURCES.filter((path) => pattern.test(readFileSync(path, "utf8"))).sort();
}

/** Declarations of C functions in a file, `int close(int)`. */
const declared = (names: string): RegExp => new RegExp(`["'\`](?:\\w+[ *]+)+(?:${names})\\(`);

describe("native sources", () => {
  it("close and duplicate descriptors in one place, which knows the layer that opened them", () => {
    expect(usersOf(declared("close|dup|dup2|dup3"))).to.deep.equal(["src/native/ffi/descriptor.ts"]);
    expect(usersOf(/F_DUPFD/)).to.deep.equal(["src/native/ffi/descriptor.ts"]);
  });

  it("hand what makes descriptors to that place", () => {
    const makers = usersOf(
      declared(
        "socket|socketpair|accept4?|open(?:at2?)?|creat|pipe2?|memfd_create|epoll_create1?|kqueue|eventfd|signalfd|timerfd_create|inotify_init1?|pidfd_open|posix_openpt|shm_open|mq_open",
      ),
    );
    expect(makers).to.include("src/native/posix/vsock.ts").and.include("src/native/ffi/memory.ts");
    for (const path of makers) {
      expect(readFileSync(path, "utf8"), path).to.match(/\b(?:ownDescriptors?|closeMade)\(/);
      expect(readFileSync(path, "utf8"), path).to.match(/from "\.\.?\/(ffi\/)?descriptor\.js"/);
    }
  });

  it("wait by event handles through the function that refuses them in workers alone", () => {
    expect(usersOf(/\bnode\.poll\b/)).to.deep.equal(["src/native/posix/poll-source.ts"]);
    expect(usersOf(/\bwatchByHandle\(/)).to.deep.equal([
      "src/native/posix/poll-source.ts",
      "src/native/posix/ready.ts",
    ]);
    expect(readFileSync("src/native/posix/poll-source.ts", "utf8")).to.match(/if \(!isMainThread\) throw/);
  });

  it("register callbacks of other threads on Windows alone: koffi calls them when their thread is gone", () => {
    expect(usersOf(/koffi\.register\(/)).to.deep.equal(["src/native/windows/registry.ts"]);
  });

  it("take koffi's numbers of errors by name through Libc, which knows what is none", () => {
    expect(usersOf(/\bos\.errno\b|\.os;/)).to.deep.equal([
      "src/native/ffi/libc.ts",
      "src/native/posix/lock-helper.ts",
    ]);
  });
});
