import { ContainerModule } from "inversify";

/** Binds the Hyper-V provider. */
export const hypervModule: ContainerModule = new ContainerModule(() => undefined);
