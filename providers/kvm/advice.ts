/** What the host has to add so that a guest gets a metadata channel, in the words of QEMU and libvirt. */
export function channelAdvice(portName: string): string {
  return (
    "have the host add a channel and serve it (pvbus host serve): QEMU " +
    "-device virtio-serial -chardev socket,id=pvbus,path=SOCKET,server=on,wait=off " +
    `-device virtserialport,chardev=pvbus,name=${portName}; libvirt ` +
    `<channel type='unix'><source mode='bind' path='SOCKET'/><target type='virtio' name='${portName}'/></channel>; ` +
    "Firecracker and Cloud Hypervisor: a vsock device, named with --channel vsock:2:PORT"
  );
}

/** What the host has to add so that a guest gets values at its start. */
export function staticAdvice(namespace: string): string {
  return (
    `QEMU -fw_cfg name=opt/${namespace}/KEY,string=VALUE or -smbios type=11,value=${namespace}:KEY=VALUE; libvirt ` +
    `<sysinfo type='fwcfg'><entry name='opt/${namespace}/KEY'>VALUE</entry></sysinfo>`
  );
}
