# The real oxenstored without Xen: fd 3 is its listening socket, fd 4 stands for the event channels.
# $1 directory for its files, $2 the program, $3 its configuration. Runs in a mount namespace of its own.
set -e
mount --make-rprivate /
mkdir -p "$1/dev" "$1/run"
mount -t tmpfs none "$1/dev"
touch "$1/dev/null"
mount --bind /dev/null "$1/dev/null"
mkdir "$1/dev/xen"
: >"$1/dev/xen/privcmd"
ulimit -Hn >"$1/nr_open"
mount --bind "$1/nr_open" /proc/sys/fs/nr_open
mount --rbind "$1/dev" /dev
mount -t tmpfs none /run
mkdir /run/xenstored
printf '$xenstored-dump-format\nglobal,3\nevtchn-dev,4,1\n' >/run/xenstored/db
exec "$2" --no-domain-init --no-fork --no-access-log --disable-socket --restart --config-file "$3"
