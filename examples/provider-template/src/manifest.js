// The manifest: plain data and loaders. Whoever imports it loads nothing else.
export default {
  id: "acme",
  type: "Acme",
  load: async () => (await import("./module.js")).acmeModule,
  locate: (host) =>
    host.files.kind("/run/acme/keys") === "directory" && {
      evidence: [{ source: "path", detail: "/run/acme/keys is there" }],
    },
  systems: { read: ["linux"], write: [], delete: [], list: ["linux"], watch: ["linux"] },
  options: {
    directory: { kind: "text", line: "directory of the keys", default: "/run/acme/keys" },
    pollMs: { kind: "number", line: "time between two looks of a watch", default: 1000, least: 1 },
  },
};
