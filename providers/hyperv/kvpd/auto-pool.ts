// TEMPORARY, replaced by the branch kvpip.
import type { AutoValues } from "./services.js";
export function createAutoPool(_host: unknown): AutoValues {
  const values: [string, string][] = [
    ["FullyQualifiedDomainName", "x"],
    ["IntegrationServicesVersion", ""],
  ];
  return {
    setIntegrationServicesVersion: (version) => {
      values[1] = ["IntegrationServicesVersion", version];
    },
    entry: (position) => {
      const found = values[position];
      return found && { key: found[0], value: found[1] };
    },
  };
}
