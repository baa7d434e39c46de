package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const cgroupRoot = "/sys/fs/cgroup"

// makeCgroups makes the node's cgroup in every v1 controller, and in the hierarchy of v2 if it is to see that. systemd takes that, too, wherever
// it finds it: without a cgroup of its own there a node would leave its slices at the top.
func (n *Node) makeCgroups() error {
	list, err := filepath.Glob(filepath.Join(cgroupRoot, "*", "tasks"))
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return errors.New("nodes need cgroup v1 controllers below " + cgroupRoot)
	}
	if n.o.V2 || n.o.Systemd {
		unified, err := unifiedRoot()
		if err == nil {
			err = os.Mkdir(filepath.Join(unified, prefix+n.o.Name), 0o755)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) && (n.o.V2 || !errors.Is(err, ErrNoV2)) {
			return err
		}
	}
	for _, tasks := range list {
		up := filepath.Dir(tasks)
		dir := filepath.Join(up, prefix+n.o.Name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		for _, f := range []string{"cpuset.cpus", "cpuset.mems"} { // empty ones take nobody in
			b, err := os.ReadFile(filepath.Join(up, f))
			if err != nil {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, f), b, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// ErrNoV2 says that this machine has no cgroup v2 mounted beside v1.
var ErrNoV2 = errors.New("no cgroup v2 is mounted below " + cgroupRoot)

// unifiedRoot is where this machine has cgroup v2 mounted.
func unifiedRoot() (string, error) {
	found, err := filepath.Glob(filepath.Join(cgroupRoot, "*", "cgroup.subtree_control"))
	if err != nil || len(found) == 0 {
		return "", ErrNoV2
	}
	return filepath.Dir(found[0]), nil
}

// sweep kills what is left in the node's cgroups, removes them, and the node's directory.
func (n *Node) sweep() error {
	until := time.Now().Add(stopTime)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := n.sweepOnce()
		if err == nil || time.Now().After(until) {
			return err
		}
		<-tick.C
	}
}

func (n *Node) sweepOnce() error {
	dirs, err := filepath.Glob(filepath.Join(cgroupRoot, "*", prefix+n.o.Name))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		errs = append(errs, endAll(dir))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.RemoveAll(n.dir); err != nil {
		return fmt.Errorf("remove the node's directory: %w", err)
	}
	return nil
}

// endAll kills the processes of a cgroup and those below it, thaws them so that they can die, and removes it.
func endAll(dir string) error {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_ = os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0o644) // only the freezer has it
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for f := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil && pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL) // may have ended just now
		}
	}
	for _, e := range list {
		if e.IsDir() {
			if err := endAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove cgroup %s: %w", dir, err)
	}
	return nil
}
