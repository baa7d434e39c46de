package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Releases are the Debian releases that nodes can be of: Docker 26.1, runc 1.1 and CRIU 4.1; Docker 28.5, runc 1.3 and CRIU 4.2. Bookworm is
// for systemd alone: its CRIU does not start on the kernels of today.
const (
	Trixie   = "trixie"
	Forky    = "forky"
	Bookworm = "bookworm"
)

// withSystemd is the end of a root file system's name whose first process is systemd.
const withSystemd = "-systemd"

// packages of a node beside the least that Debian has.
const (
	basePackages    = "ca-certificates,procps,iproute2,busybox-static"
	dockerPackages  = "docker.io,docker-cli,criu,iptables,"
	systemdPackages = "systemd,systemd-sysv,dbus,"
)

// packagesOf are the packages of a root file system.
func packagesOf(flavour string) string {
	list := basePackages
	if !strings.HasPrefix(flavour, Bookworm) {
		list = dockerPackages + list
	}
	if strings.HasSuffix(flavour, withSystemd) {
		list = systemdPackages + list
	}
	return list
}

// masked units would look after this machine instead of the node, or wait for what a node has not.
var masked = []string{
	"systemd-udevd.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket", "systemd-udev-trigger.service", "systemd-sysctl.service", "systemd-modules-load.service",
	"systemd-binfmt.service", "systemd-remount-fs.service", "systemd-timesyncd.service", "systemd-networkd-wait-online.service", "systemd-random-seed.service",
	"dev-hugepages.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount", "sys-fs-fuse-connections.mount", "tmp.mount",
	"console-getty.service", "getty.target", "apt-daily.timer", "apt-daily-upgrade.timer", "fstrim.timer", "e2scrub_all.timer", "e2scrub_reap.service",
}

// Cache is the directory where root file systems are kept.
func Cache() string {
	if dir := os.Getenv("QOSCTL_E2E_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/qosctl-e2e"
}

// Root makes a root file system, of a release or with systemd in it, or finds it in the cache. It takes a minute or two the first time.
func Root(ctx context.Context, flavour string) (string, error) {
	release, _ := strings.CutSuffix(flavour, withSystemd)
	return RootOf(ctx, flavour, release, packagesOf(flavour))
}

// RootOf makes a root file system of other packages, separated by commas, under a name of its own. debootstrap takes of alternatives the
// first and knows nothing of what packages provide: those must be named.
func RootOf(ctx context.Context, name, release, packages string) (string, error) {
	if err := os.MkdirAll(Cache(), 0o755); err != nil {
		return "", fmt.Errorf("make the cache: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(Cache(), name+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", fmt.Errorf("lock the cache: %w", err)
	}
	defer lock.Close() //nolint:errcheck // the lock goes with it
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock the cache: %w", err)
	}
	root, stamp := filepath.Join(Cache(), name), filepath.Join(Cache(), name+".packages")
	if had, err := os.ReadFile(stamp); err == nil && string(had) == packages {
		return root, nil
	}
	if err := build(ctx, release, root, packages, strings.HasSuffix(name, withSystemd)); err != nil {
		return "", err
	}
	if err := os.WriteFile(stamp, []byte(packages), 0o600); err != nil {
		return "", fmt.Errorf("stamp the root file system: %w", err)
	}
	return root, nil
}

// build makes a root file system under another name first.
func build(ctx context.Context, release, root, packages string, systemd bool) error {
	if _, err := exec.LookPath("debootstrap"); err != nil {
		fmt.Fprintln(os.Stderr, "node: installing debootstrap")
		if out, err := exec.CommandContext(ctx, "sh", "-c", "apt-get update && apt-get install -y --no-install-recommends debootstrap").CombinedOutput(); err != nil {
			return fmt.Errorf("install debootstrap: %w: %s", err, tail(out))
		}
	}
	mirror, err := mirrorOf("/etc/apt")
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "node: making a root file system of Debian %s, once\n", release)
	fresh := root + ".new"
	if err := errors.Join(os.RemoveAll(fresh), os.RemoveAll(root)); err != nil {
		return fmt.Errorf("make room for a root file system: %w", err)
	}
	args := []string{"--variant=minbase", "--include=" + packages, release, fresh, mirror}
	if _, err := os.Stat(filepath.Join("/usr/share/debootstrap/scripts", release)); err != nil {
		args = append(args, "/usr/share/debootstrap/scripts/sid") // newer than this debootstrap
	}
	if out, err := exec.CommandContext(ctx, "debootstrap", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("debootstrap %s: %w: %s", release, err, tail(out))
	}
	if systemd {
		for _, unit := range masked {
			if err := os.Symlink(os.DevNull, filepath.Join(fresh, "etc/systemd/system", unit)); err != nil {
				return fmt.Errorf("mask %s: %w", unit, err)
			}
		}
	}
	return os.Rename(fresh, root)
}

// mirrorOf finds Debian's mirror in apt's sources, in either form.
func mirrorOf(apt string) (string, error) {
	files, err := filepath.Glob(filepath.Join(apt, "sources.list.d", "*"))
	if err != nil {
		return "", err
	}
	for _, name := range append(files, filepath.Join(apt, "sources.list")) {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		m := readMirror(f)
		_ = f.Close() // only read
		if m != "" {
			return m, nil
		}
	}
	return "", fmt.Errorf("no mirror of Debian in %s", apt)
}

func readMirror(r io.Reader) string {
	in := bufio.NewScanner(r)
	for in.Scan() {
		for f := range strings.FieldsSeq(strings.TrimPrefix(strings.TrimSpace(in.Text()), "URIs:")) {
			if strings.HasPrefix(f, "http") && strings.HasSuffix(strings.TrimRight(f, "/"), "/debian") && !strings.HasPrefix(in.Text(), "#") {
				return f
			}
		}
	}
	return ""
}

func tail(out []byte) string { return string(out[max(0, len(out)-2000):]) }
