# The second half of machine.sh, in the new root: the daemon, an image of busybox, and a container of it.
set -eu
product=$1
export PATH=/usr/libexec/incus:/usr/lib/incus:/usr/sbin:/usr/bin HOME=/root LC_ALL=C
umount -l /old
mount --make-rshared /
mkdir -p /sys/fs/cgroup/init
for each in $(cat /sys/fs/cgroup/cgroup.procs); do echo "$each" >/sys/fs/cgroup/init/cgroup.procs 2>/dev/null || :; done
ip link set lo up
if [ "$product" = incus ]; then client=incus; else client=lxc; fi

# Started by a request of the test's as well: what it printed is in the log.
cat >/run/daemon <<EOF
cd /
if [ $product = incus ]; then
  setsid incusd --group incus-admin --logfile=/var/log/incus/incus.log >>/lab/work/daemon.log 2>&1 &
  echo \$! >/lab/work/daemon.pid
  incusd waitready --timeout=40
else
  setsid lxd --group lxd --logfile=/var/log/lxd/lxd.log >>/lab/work/daemon.log 2>&1 &
  echo \$! >/lab/work/daemon.pid
  lxd waitready --timeout=40
fi
EOF
bash /run/daemon

image=/tmp/image
mkdir -p $image/rootfs/{bin,sbin,etc,dev,proc,sys,tmp,root,run,lab}
cp "$(command -v busybox)" $image/rootfs/bin/busybox
for each in sh sleep cat id ls kill ps; do ln -s busybox $image/rootfs/bin/$each; done
printf '#!/bin/sh\ntrap "exit 0" PWR TERM\nwhile :; do sleep 1; done\n' >$image/rootfs/sbin/init
chmod 755 $image/rootfs/sbin/init
printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n' >$image/rootfs/etc/passwd
printf 'root:x:0:\nuser:x:1000:\n' >$image/rootfs/etc/group
printf 'architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  os: busybox\n  description: busybox\n' >$image/metadata.yaml
tar -C $image -czf /tmp/image.tar.gz metadata.yaml rootfs

$client storage create default dir >/dev/null
$client profile device add default root disk path=/ pool=default >/dev/null
$client image import /tmp/image.tar.gz --alias bb >/dev/null
$client init bb c1 </dev/null >/dev/null
for each in repository node_modules work; do
  $client config device add c1 $each disk source=/lab/$each path=/lab/$each >/dev/null
done
$client start c1
echo ready
while :; do sleep 1000; done
