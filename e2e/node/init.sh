# The first process of a node, in namespaces of its own. Arguments: name, root file system, directory of the node, cgroup v2 alone (true or false).
set -eu
name=$1 lower=$2 dir=$3 v2=$4
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
r=$dir/root
mount --rbind /dev "$r/dev"
mount -t proc proc "$r/proc"
mount -t sysfs sysfs "$r/sys"
if [ "$v2" = true ]; then mount -t cgroup2 cgroup2 "$r/sys/fs/cgroup"; else mount -t tmpfs tmpfs "$r/sys/fs/cgroup"; fi
for c in /sys/fs/cgroup/*/; do
	[ "$v2" = true ] && break
	n=$(basename "$c")
	[ -e "$c/tasks" ] || continue
	mkdir "$r/sys/fs/cgroup/$n"
	case $n in
	systemd) mount -t cgroup -o none,name=systemd cgroup "$r/sys/fs/cgroup/$n" ;;
	*) mount -t cgroup -o "$n" cgroup "$r/sys/fs/cgroup/$n" ;;
	esac
done
mount -t tmpfs tmpfs "$r/run"
mount -t tmpfs tmpfs "$r/tmp"
mkdir -p "$r/var/lib/docker" "$r/var/lib/qosctl" "$r/etc/docker" "$r/host"
mount --bind "$dir/docker" "$r/var/lib/docker" # overlayfs on overlayfs is none: Docker would copy everything
mount --bind "$dir/qosctl" "$r/var/lib/qosctl"
mount --bind "$dir/host" "$r/host"
# Without hardware breakpoints, as in many virtual machines, a dump would hang for ever.
printf '#!/bin/sh\nCRIU_FAULT=130 exec /usr/sbin/criu "$@"\n' >"$r/usr/local/sbin/criu"
chmod 755 "$r/usr/local/sbin/criu"
cp "$dir/daemon.json" "$r/etc/docker/daemon.json"
hostname "$name"
ip link set lo up
mkdir -p "$r/.old"
cd "$r"
pivot_root . .old
umount -l /.old
touch /run/node.ready # before it, this process' root is the machine's
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
# dockerd is started again whenever it ends, as systemd would; a test that wants it away makes the file.
while :; do
	if [ -e /run/docker.away ]; then
		sleep 0.05
		continue
	fi
	dockerd --iptables=false --ip6tables=false >>/var/log/dockerd.log 2>&1 || true
	rm -f /run/docker.pid
done
