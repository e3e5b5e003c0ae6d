import { ContainerModule } from "inversify";
import type { Host } from "../../src/base/host/host.js";
import type { ProviderModule } from "../../src/contract/manifest.js";
import { HOST, PROVIDER } from "../../src/contract/tokens.js";
import { XenProvider } from "./provider.js";
import {
  type FindTransport,
  type OpenDriver,
  openDriver,
  transportOf,
  XEN_DRIVER,
  XEN_TRANSPORT,
} from "./transport/locate.js";

/** Binds the Xen provider and what it reaches XenStore through. */
export const xenModule: ProviderModule = new ContainerModule(({ bind }) => {
  bind(XEN_TRANSPORT).toConstantValue(transportOf);
  bind(XEN_DRIVER).toConstantValue(openDriver);
  bind(PROVIDER).toResolvedValue(
    (host: Host, find: FindTransport, open: OpenDriver) => new XenProvider(host, find, open),
    [HOST, XEN_TRANSPORT, XEN_DRIVER],
  );
});
