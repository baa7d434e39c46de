package ociruntime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Paths are where the runtime and Docker's configuration stand.
type Paths struct {
	Binary  string // the program that is installed: this one
	Runtime string // "/usr/libexec/qosctl/qosctl-runtime"
	Daemon  string // "/etc/docker/daemon.json"
	PIDFile string // "/var/run/docker.pid"
	Proc    string // "/proc"
}

// DefaultPaths are those of a packaged Docker.
func DefaultPaths() Paths {
	return Paths{
		Binary: "/proc/self/exe", Runtime: "/usr/libexec/qosctl/" + Name, Daemon: "/etc/docker/daemon.json", PIDFile: "/var/run/docker.pid", Proc: "/proc",
	}
}

// registered is the name by which Docker knows the runtime.
const registered = "qosctl"

// maxDaemon bounds daemon.json.
const maxDaemon = 1 << 20

// Installed says what an installation has done.
type Installed struct {
	Runtime  string // the file
	Changed  bool   // daemon.json was changed
	Copy     string // of daemon.json as it was; "" if there was none, or nothing was changed
	Reloaded bool   // dockerd was told
}

// Install puts the runtime in its place and registers it with Docker, which is told to read its configuration again (SIGHUP). Whatever
// else is in daemon.json stays as it is. It may be done again: an upgrade replaces the file in one step.
//
// names, if not nil, are the runtimes that Docker says it has: dockerd keeps its old configuration without a word to us when it does not like
// the new one, so that it is asked until ours is among them.
func Install(ctx context.Context, p Paths, names func(context.Context) ([]string, error)) (Installed, error) {
	in := Installed{Runtime: p.Runtime}
	if err := place(p); err != nil {
		return in, err
	}
	old, err := readDaemon(p.Daemon)
	if err != nil {
		return in, err
	}
	text, changed, err := register(old, p.Runtime)
	if err != nil {
		return in, fmt.Errorf("%s: %w", p.Daemon, err)
	}
	if changed {
		if in.Copy, err = replaceDaemon(p.Daemon, old, text); err != nil {
			return in, err
		}
		in.Changed = true
	}
	if in.Reloaded, err = reload(p); err != nil || !in.Reloaded || names == nil {
		return in, err
	}
	return in, await(ctx, names)
}

// reloadTime bounds how long dockerd is given to read its configuration.
const reloadTime = 30 * time.Second

// await returns when Docker has the runtime.
func await(ctx context.Context, names func(context.Context) ([]string, error)) error {
	ctx, stop := context.WithTimeout(ctx, reloadTime)
	defer stop()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		list, err := names(ctx)
		if err == nil && slices.Contains(list, registered) {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("docker does not know the runtime %s: its log says what it minds in its configuration (journalctl -u docker)", registered), err)
		}
	}
}

// Uninstall takes the runtime out of Docker's configuration and removes it. used says which containers were made by it: while there are
// any it is refused, since Docker could not even remove them.
func Uninstall(ctx context.Context, p Paths, used func(context.Context) ([]string, error)) (Installed, error) {
	in := Installed{Runtime: p.Runtime}
	containers, err := used(ctx)
	if err != nil {
		return in, fmt.Errorf("find out which containers use the runtime: %w", err)
	}
	if len(containers) > 0 {
		return in, fmt.Errorf("%d container(s) were made by it: %s; let their jobs end, or remove them", len(containers), strings.Join(containers, ", "))
	}
	old, err := readDaemon(p.Daemon)
	if err != nil {
		return in, err
	}
	text, changed, err := unregister(old)
	if err != nil {
		return in, fmt.Errorf("%s: %w", p.Daemon, err)
	}
	if changed {
		if in.Copy, err = replaceDaemon(p.Daemon, old, text); err != nil {
			return in, err
		}
		in.Changed = true
		if in.Reloaded, err = reload(p); err != nil {
			return in, err
		}
	}
	if err := os.Remove(p.Runtime); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return in, fmt.Errorf("remove the runtime: %w", err)
	}
	return in, nil
}

// place copies the binary to where the runtime is called, in one step.
func place(p Paths) (err error) {
	from, err := os.Open(p.Binary)
	if err != nil {
		return fmt.Errorf("install the runtime: %w", err)
	}
	defer from.Close() //nolint:errcheck // only read
	if err := os.MkdirAll(filepath.Dir(p.Runtime), 0o755); err != nil {
		return fmt.Errorf("install the runtime: %w", err)
	}
	tmp := p.Runtime + ".new"
	to, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return fmt.Errorf("install the runtime: %w", err)
	}
	_, err = io.Copy(to, from)
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err == nil {
		err = os.Rename(tmp, p.Runtime)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("install the runtime: %w", err), os.Remove(tmp))
	}
	return nil
}

// readDaemon reads Docker's configuration; there may be none.
func readDaemon(file string) ([]byte, error) {
	b, err := readFile(file, maxDaemon)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read Docker's configuration: %w", err)
	}
	return b, nil
}

// replaceDaemon writes Docker's configuration in one step and keeps a copy of the old one.
func replaceDaemon(file string, old, text []byte) (kept string, err error) {
	if to, err := filepath.EvalSymlinks(file); err == nil { // the link stays
		file = to
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", fmt.Errorf("write Docker's configuration: %w", err)
	}
	if old != nil {
		kept = file + ".qosctl-" + time.Now().UTC().Format("20060102T150405.000")
		if err := writeLike(file, kept, old); err != nil {
			return "", fmt.Errorf("keep a copy of Docker's configuration: %w", err)
		}
	}
	tmp := file + ".new"
	if err = writeLike(file, tmp, text); err == nil {
		err = os.Rename(tmp, file)
	}
	if err != nil {
		return kept, errors.Join(fmt.Errorf("write Docker's configuration: %w", err), os.Remove(tmp))
	}
	return kept, nil
}

// writeLike writes a file whole, to the disk, with the owner and mode of another one, if that is there.
func writeLike(like, file string, text []byte) error {
	mode, uid, gid := os.FileMode(0o644), -1, -1
	if info, err := os.Stat(like); err == nil {
		mode = info.Mode().Perm()
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			uid, gid = int(st.Uid), int(st.Gid)
		}
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Chmod(mode), f.Chown(uid, gid), f.Sync(), f.Close())
}

// reload has dockerd read its configuration again; false: none runs.
func reload(p Paths) (bool, error) {
	b, err := os.ReadFile(p.PIDFile)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("find dockerd: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return false, fmt.Errorf("find dockerd: %s holds no pid", p.PIDFile)
	}
	name, err := os.ReadFile(filepath.Join(p.Proc, strconv.Itoa(pid), "comm"))
	if err != nil || strings.TrimSpace(string(name)) != "dockerd" {
		return false, nil // a pid of long ago
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		return false, fmt.Errorf("tell dockerd to read its configuration: %w", err)
	}
	return true, nil
}
