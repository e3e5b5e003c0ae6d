import { execFileSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  constants,
  mkdirSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { expect } from "chai";
import { type HostFiles, hostFiles } from "../../../src/base/host/files.js";
import { nameWalker } from "../../../src/base/host/tree.js";
import { connectTo } from "../../../src/base/host/unix-stream.js";
import { pending } from "../../support/pending.js";
import { asNobody, fileTree, removeTree } from "../../support/trees.js";

const isLinux = process.platform === "linux";
const READ = { flags: constants.O_RDONLY, kind: "file" } as const;

function codeOf(work: () => unknown): string | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  }
}

for (const way of isLinux ? ["descriptors", "names"] : ["names"]) {
  describe(`files below a sysroot, by ${way}`, () => {
    let root: string;
    let outside: string;
    let files: HostFiles;
    const text = (path: string): string | undefined => files.read(path, 100)?.toString();

    beforeEach(() => {
      root = fileTree({ "a/b/file": "inside", "etc/passwd": "captured" });
      outside = fileTree({ secret: "outside", "a/b/file": "outside" });
      files = hostFiles(root, way === "names" ? nameWalker : undefined);
    });
    afterEach(() => {
      for (const each of [root, outside]) removeTree(each);
    });

    it("has links lead to where they would lead if it were /", () => {
      for (const [link, target] of Object.entries({
        absolute: "/a/b/file",
        relative: "a/b/file",
        above: "../../../../../../a/b/../b/./file",
        chain: "absolute",
        directory: "a",
        top: "/",
        magic: "/proc/self/root/etc/passwd",
        passwd: "/etc/passwd",
        stolen: join(outside, "secret"),
        climbing: `${"../".repeat(40)}${outside}/secret`,
        out: outside,
      }))
        symlinkSync(target, join(root, link));
      for (const path of ["/absolute", "relative", "/above", "/chain", "/directory/b/file", "/top/a/b/file"])
        expect(text(path), path).to.equal("inside");
      expect(text("/a/b/../../../../a//./b/file")).to.equal("inside");
      expect(text("/passwd")).to.equal("captured");
      for (const path of [
        "/magic",
        "/stolen",
        "/climbing",
        "/out/secret",
        "/out/a/b/file",
        "/a/b/file/../file",
      ])
        expect([files.kind(path), text(path)], path).to.deep.equal([undefined, undefined]);
      expect(files.names("/top")).to.include("etc").and.not.include("secret");
      expect(files.names("/out")).to.deep.equal([]);
    });

    it("follows as many links as Linux, and no circle", () => {
      symlinkSync("/a/b/file", join(root, "0"));
      for (let at = 1; at <= 40; at++) symlinkSync(`${at - 1}`, join(root, `${at}`));
      symlinkSync("circle", join(root, "circle"));
      expect(text("/39")).to.equal("inside");
      expect(codeOf(() => text("/40"))).to.equal("ELOOP");
      expect(codeOf(() => text("/circle"))).to.equal("ELOOP");
      expect(files.kind("/circle")).to.equal(undefined);
    });

    it("gives up on ways without end, at once", () => {
      const deep = Array.from({ length: 200 }, () => "d").join("/");
      mkdirSync(join(root, deep), { recursive: true });
      for (let at = 0; at < 30; at++)
        symlinkSync(`/${deep}/${"../".repeat(3)}d/../../${at + 1}`, join(root, "d", `${at}`));
      const started = performance.now();
      for (const path of ["/d".repeat(1_001), "/x".repeat(100_000), `/a${"/../a".repeat(100_000)}`, "/d/0"])
        expect([undefined, "ENAMETOOLONG"]).to.include(codeOf(() => expect(text(path)).to.equal(undefined)));
      expect(codeOf(() => text(`/a${"/../a".repeat(100_000)}`))).to.equal("ENAMETOOLONG");
      expect(performance.now() - started).to.be.lessThan(2_000);
      expect(files.kind(`/${deep}`)).to.equal("directory");
    });

    it("has nothing where there can be nothing", () => {
      for (const path of ["/a\0b", "/a/b/file\0", "/nobody", "/a/b/file/x", "/a/b/file/.."])
        expect([files.kind(path), text(path), files.names(path), files.holdName(`${path}/x`)]).to.deep.equal([
          undefined,
          undefined,
          [],
          undefined,
        ]);
      const gone = hostFiles(join(root, "gone"));
      expect([gone.kind("/"), gone.read("/a", 1), gone.names("/"), gone.holdName("/a")]).to.deep.equal([
        undefined,
        undefined,
        [],
        undefined,
      ]);
      expect(codeOf(() => files.open("/nobody", READ))).to.equal("ENOENT");
      expect(codeOf(() => files.holdSocket("/nobody"))).to.equal("ENOENT");
      expect(codeOf(() => files.holdSocket("/a/b/file"))).to.equal("ECONNREFUSED");
    });

    it("opens what it was said to be, and nothing else", async function () {
      if (!isLinux) {
        return pending(this, "mkfifo and mknod are Linux's");
      }
      execFileSync("mkfifo", [join(root, "fifo")]);
      expect(files.kind("/fifo")).to.equal("pipe");
      expect([codeOf(() => files.open("/fifo", READ)), text("/fifo"), text("/a")]).to.deep.equal([
        "EINVAL",
        undefined,
        undefined,
      ]);
      expect((await files.reader("/fifo").catch((error) => error)).code).to.equal("EINVAL");
      const fd = files.open("/a/b/file", READ);
      const bytes = Buffer.alloc(10);
      expect(bytes.toString("utf8", 0, readSync(fd, bytes))).to.equal("inside");
      closeSync(fd);
      await using handle = await files.reader("/a/b/file");
      expect(`${await handle?.readFile()}`).to.equal("inside");
    });

    it("opens a device of this machine only when somebody named it", function () {
      if (process.geteuid?.() !== 0 || !isLinux) {
        return pending(this, "device nodes need root, on Linux");
      }
      execFileSync("mknod", [join(root, "null"), "c", "1", "3"]);
      const opening = { flags: constants.O_RDWR, kind: "device" } as const;
      expect(files.kind("/null")).to.equal("device");
      expect(codeOf(() => files.open("/null", opening))).to.equal("EXDEV");
      closeSync(files.open("/null", { ...opening, isNamed: true }));
    });

    it("holds the directory of a name, whatever becomes of the directory's own", () => {
      using name = files.holdName("/a/b/new");
      if (way === "descriptors") {
        renameSync(join(root, "a/b"), join(root, "moved"));
        symlinkSync(outside, join(root, "a/b"));
      }
      writeFileSync(name?.path ?? "", "made");
      expect(text(way === "descriptors" ? "/moved/new" : "/a/b/new")).to.equal("made");
      expect(readdirSync(outside)).to.have.members(["a", "secret"]);
      expect(files.holdName("/..")).to.equal(undefined);
    });

    it("connects to a socket inside, however long its path is here", async () => {
      const place = `/${"x".repeat(100)}/${"y".repeat(100)}/`;
      mkdirSync(join(root, place), { recursive: true });
      let server: Server | undefined;
      try {
        using name = files.holdName(`${place}socket`);
        if (way === "names") {
          expect(
            codeOf(() => connectTo({ path: name?.path ?? "", [Symbol.dispose]: () => undefined })),
          ).to.equal("ENAMETOOLONG");
          return;
        }
        server = createServer().listen(name?.path);
        const accepted = new Promise((resolve) => server?.once("connection", resolve));
        const socket = connectTo(files.holdSocket(`${place}socket`));
        await accepted;
        socket.destroy();
      } finally {
        server?.close();
      }
    });

    it("leaves no descriptor open, whatever fails", async function () {
      if (!isLinux) {
        return pending(this, "/proc/self/fd is Linux's");
      }
      symlinkSync("circle", join(root, "circle"));
      execFileSync("mkfifo", [join(root, "fifo")]);
      mkdirSync(join(root, "closed"));
      chmodSync(join(root, "closed"), 0);
      chmodSync(root, 0o755);
      const open = (): number => readdirSync("/proc/self/fd").length;
      const paths = [
        "/a/b/file",
        "/a",
        "/circle",
        "/fifo",
        "/closed/x",
        "/closed",
        "/a/../a/b",
        "/nobody/x",
        "/\0",
      ];
      const before = open();
      await asNobody(async () => {
        for (const path of [...paths, "/x".repeat(2_000), "/a/..".repeat(2_000)]) {
          for (const use of ["kind", "names", "hold", "holdName", "holdSocket"] as const) {
            codeOf(() => {
              const found = files[use](path);
              if (found !== undefined && typeof found === "object" && "path" in found)
                found[Symbol.dispose]();
            });
          }
          codeOf(() => files.read(path, 10));
          codeOf(() => closeSync(files.open(path, READ)));
          codeOf(() => closeSync(files.open(path, { ...READ, kind: "device" })));
          await files.reader(path).then(
            (handle) => handle?.close(),
            () => undefined,
          );
        }
      });
      expect(open()).to.equal(before);
    });

    it("takes nothing that came into the place of what it looked at", async () => {
      let swap = false;
      const swapping = hostFiles(root, (top) => {
        const walker = nameWalker(top);
        return {
          root: walker.root,
          enter: (directory, name) => {
            const found = walker.enter(directory, name);
            if (swap && name === "file") {
              rmSync(join(root, "a/b/file"));
              symlinkSync(join(outside, "secret"), join(root, "a/b/file"));
              swap = false;
            }
            return found;
          },
        };
      });
      for (const work of [() => swapping.read("/a/b/file", 10), () => swapping.open("/a/b/file", READ)]) {
        swap = true;
        expect(codeOf(work)).to.equal("EAGAIN");
        rmSync(join(root, "a/b/file"));
        writeFileSync(join(root, "a/b/file"), "inside");
      }
      swap = true;
      const refused = await swapping.reader("/a/b/file").catch((error) => error);
      expect(refused.code).to.equal("EAGAIN");
    });
  });
}

describe("files of the live machine", () => {
  const files = hostFiles(undefined);

  it("are taken as the system has them, links and all", () => {
    const root = fileTree({ "a/file": "text" });
    symlinkSync(join(root, "a/file"), join(root, "link"));
    try {
      expect(files.read(join(root, "link"), 3)?.toString()).to.equal("tex");
      expect(files.names(root)).to.deep.equal(["a", "link"]);
      expect(files.names(join(root, "a/file"))).to.deep.equal([]);
      expect([
        files.kind(join(root, "a")),
        files.kind(join(root, "a/file/x")),
        files.kind("a\0"),
      ]).to.deep.equal(["directory", undefined, undefined]);
      if (isLinux) closeSync(files.open("/dev/null", { flags: constants.O_RDWR, kind: "device" }));
      expect(codeOf(() => files.open(join(root, "a"), READ))).to.equal("EINVAL");
    } finally {
      removeTree(root);
    }
  });
});
