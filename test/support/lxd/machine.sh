#!/bin/bash
# A root of Debian's packages with the daemon of LXD or Incus and one container, in namespaces of its own. Started by
# machine.ts, as root; ends when its first process is killed. Prints "ready" when the container runs.
#   machine.sh PRODUCT TREE WORK REPOSITORY MODULES
set -eu
product=$1 tree=$2 work=$3 repository=$4 modules=$5
if [ "${PVBUS_INSIDE:-}" = "" ]; then
  group=
  for top in /sys/fs/cgroup/unified /sys/fs/cgroup; do
    [ -e "$top/cgroup.procs" ] && [ -e "$top/cgroup.controllers" ] && group=$top/pvbus-$$ && break
  done
  [ -n "$group" ] || { echo "no cgroup v2 is mounted here"; exit 1; }
  mkdir "$group"
  echo "$group" >"$work/cgroup"
  echo $$ >"$group/cgroup.procs"
  export PVBUS_INSIDE=1
  exec unshare -m -p -n -u -i -C --fork --kill-child bash "$0" "$@"
fi

mount --make-rprivate /
mkdir -p "$work/overlay"
mount -t tmpfs -o size=1g tmpfs "$work/overlay"
mkdir -p "$work/overlay/up" "$work/overlay/tmp" "$work/overlay/root"
mount -t overlay -o "lowerdir=$tree,upperdir=$work/overlay/up,workdir=$work/overlay/tmp" overlay "$work/overlay/root"
R=$work/overlay/root
# Packages were unpacked one by one: what is beside /usr belongs there.
for each in bin sbin lib lib64; do
  if [ -d "$R/$each" ] && [ ! -L "$R/$each" ]; then
    mkdir -p "$R/usr/$each"
    cp -a "$R/$each/." "$R/usr/$each/"
    rm -rf "${R:?}/$each"
  fi
  ln -sfn "usr/$each" "$R/$each"
done
ln -sf bash "$R/usr/bin/sh"
mkdir -p "$R"/{proc,sys,dev,run,tmp,var/lib,var/log,etc,root,lab,old}
printf 'root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n' >"$R/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\nincus-admin:x:900:\nincus:x:901:\nlxd:x:902:\n' >"$R/etc/group"
echo root:1000000:1000000000 >"$R/etc/subuid"
echo root:1000000:1000000000 >"$R/etc/subgid"
printf '127.0.0.1 localhost vm\n' >"$R/etc/hosts"
rm -f "$R/usr/share/lxc/config/common.conf.d/00-lxcfs.conf"

mount -t proc proc "$R/proc"
mount -t sysfs sysfs "$R/sys"
mkdir -p "$R/sys/fs/cgroup"
mount -t cgroup2 cgroup2 "$R/sys/fs/cgroup"
mount -t tmpfs tmpfs "$R/dev"
for each in null zero full random urandom tty fuse; do
  touch "$R/dev/$each"
  mount --bind "/dev/$each" "$R/dev/$each" || rm -f "$R/dev/$each"
done
mkdir -p "$R/dev/pts" "$R/dev/shm" "$R/dev/mqueue"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$R/dev/pts"
ln -s pts/ptmx "$R/dev/ptmx"
ln -s /proc/self/fd "$R/dev/fd"
for each in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${each%:*}" "$R/dev/${each#*:}"; done
for each in run tmp; do mount -t tmpfs tmpfs "$R/$each"; done
mount -t tmpfs -o size=512m tmpfs "$R/var/lib"
mkdir -p "$R/var/lib/$product" "$R/var/log/$product" "$R/var/lib/lxcfs" "$R/var/lib/misc"
for each in repository node_modules work; do mkdir -p "$R/lab/$each"; done
mount --bind "$repository" "$R/lab/repository"
mount --bind "$modules" "$R/lab/node_modules"
mount --bind "$work/shared" "$R/lab/work"
hostname vm
cd "$R"
pivot_root . old
# Not chroot: there the kernel refuses new user namespaces.
exec chroot . /bin/bash /lab/work/inside.sh "$product"
