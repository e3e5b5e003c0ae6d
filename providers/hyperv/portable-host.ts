import type { HostPair, PortableHost } from "../../src/contract/portable-host.js";
import { HOST_LIMITS } from "./protocol/limits.js";

const PROLOGUE = String.raw`
param([Parameter(Mandatory)][string]$VMName)
$ErrorActionPreference = 'Stop'
$namespace = 'root/virtualization/v2'
$vm = Get-CimInstance -Namespace $namespace Msvm_ComputerSystem -Filter "ElementName='$($VMName.Replace("'", "\'"))'"
$service = Get-CimInstance -Namespace $namespace Msvm_VirtualSystemManagementService
$serializer = [Microsoft.Management.Infrastructure.Serialization.CimSerializer]::Create()
function Invoke-Kvp([string]$Method, [string]$Key, [string]$Value) {
  $class = Get-CimClass -Namespace $namespace Msvm_KvpExchangeDataItem
  $item = New-CimInstance -CimClass $class -ClientOnly -Property @{ Name = $Key; Data = $Value; Source = [uint16]0 }
  $text = [Text.Encoding]::Unicode.GetString($serializer.Serialize($item, 0))
  $result = Invoke-CimMethod -InputObject $service -MethodName $Method -Arguments @{ TargetSystem = $vm; DataItems = @($text) }
  if ($result.ReturnValue -eq 4096) {
    do { Start-Sleep -Milliseconds 50; $job = Get-CimInstance -InputObject $result.Job } while ($job.JobState -lt 7)
    if ($job.JobState -ne 7) { throw "$Method of $($Key): $($job.ErrorDescription)" }
  } elseif ($result.ReturnValue -ne 0) { throw "$Method of $($Key): error $($result.ReturnValue)" }
}
function Read-Pair([string]$Key) {
  $kvp = Get-CimAssociatedInstance -InputObject $vm -ResultClassName Msvm_KvpExchangeComponent
  $given = Get-CimAssociatedInstance -InputObject $kvp -ResultClassName Msvm_KvpExchangeComponentSettingData
  foreach ($text in $given.HostExchangeItems) {
    $pair = @{}
    ([xml]$text).INSTANCE.PROPERTY | ForEach-Object { $pair[$_.NAME] = $_.VALUE }
    if ($pair.Name -ceq $Key) { return $pair.Data }
  }
}
function Write-Pair([string]$Key, [string]$Value) {
  if ($null -eq (Read-Pair $Key)) { Invoke-Kvp AddKvpItems $Key $Value } else { Invoke-Kvp ModifyKvpItems $Key $Value }
}
function Remove-Pair([string]$Key) { Invoke-Kvp RemoveKvpItems $Key '' }
`;

const LISTING =
  "(Get-CimInstance -Namespace root/virtualization/v2 Msvm_ComputerSystem -Filter \"ElementName='VM'\" | " +
  "Get-CimAssociatedInstance -ResultClassName Msvm_KvpExchangeComponent).GuestExchangeItems";

const keyOf = (namespace: string, name: string): string => `${namespace}/${name}`;
const ENTITY = /&(?:#x([0-9a-fA-F]+)|#(\d+)|(lt|gt|amp|quot|apos));/g;
const VALUE = "<VALUE>";
const VALUE_END = "</VALUE>";
const ENTITIES: ReadonlyMap<string, string> = new Map([
  ["lt", "<"],
  ["gt", ">"],
  ["amp", "&"],
  ["quot", '"'],
  ["apos", "'"],
]);

/** PowerShell on the Hyper-V host. */
export const hypervPortableHost: PortableHost = {
  language: "powershell",
  usage: ".\\FILE.ps1 -VMName VM",
  listing: LISTING,
  prologue: PROLOGUE,
  chunkBytes: HOST_LIMITS.maxValueUnits,
  hostKey: keyOf,
  guestKey: keyOf,
  // A guest of OpenBSD's has a colon there.
  keyOf: (shown) => shown.replace(/^([\w.-]+):/, "$1/"),
  pairs: function* (text): Generator<HostPair> {
    for (const instance of text.split("</INSTANCE>")) {
      const key = fieldOf(instance, "Name");
      const value = fieldOf(instance, "Data");
      if (key !== undefined && value !== undefined) yield { key, value };
    }
  },
};

/** Returns a property of an item as WMI serialises it: an element with the value in another one. */
function fieldOf(instance: string, name: string): string | undefined {
  const property = instance.indexOf(`<PROPERTY NAME="${name}"`);
  const end = property < 0 ? -1 : instance.indexOf("</PROPERTY>", property);
  if (end < 0) return undefined;
  const element = instance.slice(property, end);
  const [from, to] = [element.indexOf(VALUE), element.indexOf(VALUE_END)];
  return from < 0 || to < from ? undefined : plain(element.slice(from + VALUE.length, to));
}

function plain(xml: string): string {
  return xml.replace(ENTITY, (_, hexadecimal?: string, decimal?: string, name = "") => {
    const code = hexadecimal === undefined ? Number(decimal) : Number.parseInt(hexadecimal, 16);
    return ENTITIES.get(name) ?? String.fromCodePoint(code <= 0x10ffff ? code : 0xfffd);
  });
}
