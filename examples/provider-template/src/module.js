import "reflect-metadata";
import { ContainerModule } from "inversify";
import { HOST, PROVIDER } from "pvbus";
import { AcmeProvider } from "./provider.js";

export const acmeModule = new ContainerModule(({ bind }) => {
  bind(PROVIDER).toResolvedValue((host) => new AcmeProvider(host), [HOST]);
});
