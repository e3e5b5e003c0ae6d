import { ContainerModule } from "inversify";
import type { Host } from "../../src/base/host/host.js";
import { HOST, PROVIDER } from "../../src/contract/tokens.js";
import { LxdProvider } from "./provider.js";
import { type FindTransport, LXD_TRANSPORT, transportOf } from "./transport/transport.js";

/** Binds the LXD provider and what it reaches the guest API through. */
export const lxdModule: ContainerModule = new ContainerModule(({ bind }) => {
  bind(LXD_TRANSPORT).toConstantValue(transportOf);
  bind(PROVIDER).toResolvedValue(
    (host: Host, find: FindTransport) => new LxdProvider(host, find),
    [HOST, LXD_TRANSPORT],
  );
});
