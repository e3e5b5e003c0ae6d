import { ContainerModule } from "inversify";
import type { Host } from "../../src/base/host/host.js";
import { HOST, PROVIDER } from "../../src/contract/tokens.js";
import { VirtualBoxProvider } from "./provider.js";
import { openDriverFile } from "./transport/device.js";
import { type OpenDriverFile, VIRTUALBOX_DRIVER } from "./transport/driver-file.js";

/** Binds the VirtualBox provider and what opens the driver. */
export const virtualboxModule: ContainerModule = new ContainerModule(({ bind }) => {
  bind(VIRTUALBOX_DRIVER).toConstantValue(openDriverFile);
  bind(PROVIDER).toResolvedValue(
    (host: Host, open: OpenDriverFile) => new VirtualBoxProvider(host, open),
    [HOST, VIRTUALBOX_DRIVER],
  );
});
