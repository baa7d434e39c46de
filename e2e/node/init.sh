# The first process of a node, in namespaces of its own. Arguments: name, root file system, directory of the node, cgroup v2 alone (true or
# false), systemd (true or false).
set -eu
name=$1 lower=$2 dir=$3 v2=$4 systemd=$5
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
r=$dir/root
if [ "$systemd" = true ]; then # it would look after devices and mounts of this machine
	mount -t tmpfs -o mode=755 tmpfs "$r/dev"
	for d in null zero full random urandom tty; do
		touch "$r/dev/$d"
		mount --bind "/dev/$d" "$r/dev/$d"
	done
	mkdir "$r/dev/pts" "$r/dev/shm" "$r/dev/mqueue"
	mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$r/dev/pts"
	mount -t tmpfs tmpfs "$r/dev/shm"
	mount -t mqueue mqueue "$r/dev/mqueue"
	ln -s pts/ptmx "$r/dev/ptmx"
	ln -s /proc/self/fd "$r/dev/fd"
else
	mount --rbind /dev "$r/dev"
fi
mount -t proc proc "$r/proc"
if [ "$systemd" = true ]; then # and it would set this machine's kernel
	for f in fs/file-max fs/nr_open kernel/core_pattern kernel/pid_max vm; do # the rest that it, or CRIU, sets is of namespaces
		mount --bind "$r/proc/sys/$f" "$r/proc/sys/$f"
		mount -o remount,bind,ro "$r/proc/sys/$f"
	done
	mount -t sysfs -o ro sysfs "$r/sys"
else
	mount -t sysfs sysfs "$r/sys"
fi
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
if [ "$systemd" = true ]; then
	mkdir -p /etc/systemd/system/docker.service.d
	printf '[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd --iptables=false --ip6tables=false --pidfile /run/docker.pid\n' >/etc/systemd/system/docker.service.d/node.conf
	unified=0
	[ "$v2" = false ] || unified=1
	# The newer ones take cgroup v1 only if the kernel is told so, and in a container its command line is the first process' own.
	exec env -i container=qosctl-node PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd \
		systemd.unit=multi-user.target systemd.unified_cgroup_hierarchy=$unified SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 --log-target=console
fi
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
