package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// dirMode of a cgroup that we make: counters may be read by all, as everywhere under /sys.
const dirMode = 0o755

// Create makes the cgroup at path (as "/qosctl/a/b", with all above it) in the cpu, cpuacct, freezer and memory hierarchies that the
// host has; on v2 it enables the cpu and memory controllers on the way down. One that is there already is no error. On an error what was made is left, for Remove.
func (f *FS) Create(path string) (Group, error) {
	path, err := ownPath(path)
	if err != nil {
		return Group{}, err
	}
	for _, h := range f.hierarchies() {
		if err := f.makeIn(h, path); err != nil {
			return Group{}, denied("create cgroup "+path, err)
		}
	}
	return Group{CPU: path, CPUAcct: path}, nil
}

// makeIn makes path and what is above it, from the root down.
func (f *FS) makeIn(h *hierarchy, path string) error {
	dir := h.dir
	for part := range strings.SplitSeq(path[1:], "/") {
		if h.unified {
			if err := f.enable(dir); err != nil {
				return err
			}
		}
		dir = filepath.Join(dir, part)
		if err := os.Mkdir(dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// enable has a v2 cgroup hand the cpu and memory controllers to those below it. What is enabled already is not written, so that a delegated subtree needs no rights above.
func (f *FS) enable(dir string) error {
	on, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	has, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	enabled, there := strings.Fields(string(on)), strings.Fields(string(has))
	for _, c := range []string{"cpu", "memory"} {
		switch {
		case slices.Contains(enabled, c):
			continue
		case !slices.Contains(there, c) && c == "cpu":
			return fmt.Errorf("%s has no cpu controller to hand on: enable it in the cgroups above, or boot with it", dir)
		case !slices.Contains(there, c):
			f.log.Debug("cgroup has no such controller to hand on", "dir", dir, "controller", c)
			continue
		}
		err := f.writeOnce(dir, "cgroup.subtree_control", "+"+c)
		if errors.Is(err, syscall.EBUSY) {
			return fmt.Errorf("%s holds processes of its own, and v2 lets only an empty cgroup hand on controllers: move them to one below it: %w", dir, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Join moves a process, with all its threads, into the cgroup at path in all hierarchies that Create uses. fs.ErrNotExist if there is no such process, ErrGone if there is no such cgroup.
func (f *FS) Join(path string, pid int) error {
	path, err := cleanPath(path)
	if err != nil {
		return err
	}
	if pid <= 0 {
		return fmt.Errorf("join cgroup %s: %d is not a process id", path, pid)
	}
	for _, h := range f.hierarchies() {
		err := f.writeOnce(h.at(path), "cgroup.procs", strconv.Itoa(pid))
		switch {
		case errors.Is(err, syscall.ESRCH):
			err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
		case errors.Is(err, syscall.EBUSY):
			err = fmt.Errorf("a v2 cgroup that hands controllers on takes no processes: %w", err)
		}
		if err != nil {
			return fmt.Errorf("join process %d to cgroup %s: %w", pid, path, err)
		}
	}
	return nil
}

// Access says whether cgroups can be made at the top of every hierarchy that Create uses: nil, or ErrNoAccess with the reason.
func (f *FS) Access() error { return f.AccessBelow("/") }

// AccessBelow is Access for cgroups at or below path, which may lie in a delegated subtree; where path is not there yet, the nearest above it counts.
func (f *FS) AccessBelow(path string) error {
	path, err := cleanPath(path)
	if err != nil {
		return err
	}
	for _, h := range f.hierarchies() {
		dir := h.at(path)
		for dir != h.dir && !exists(dir) {
			dir = filepath.Dir(dir)
		}
		if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
			return denied("write to "+dir, err)
		}
	}
	return nil
}
