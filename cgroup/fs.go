package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"syscall"
)

// defaultRoot and defaultProc are where every distribution mounts cgroups and /proc.
const (
	defaultRoot = "/sys/fs/cgroup"
	defaultProc = "/proc"
)

// Options says where the kernel's files are.
type Options struct {
	Root   string       // where cgroups are mounted; "": /sys/fs/cgroup
	Proc   string       // where /proc is mounted; "": /proc
	Logger *slog.Logger // nil: nothing is logged
}

// FS is a host's cgroups. Its methods may be called at once from several goroutines.
type FS struct {
	root string
	proc string
	mode Mode
	log  *slog.Logger

	// The hierarchy of each controller that we use; nil when the host has none. On v2 all of them are the same one.
	cpu, cpuacct, freezer, memory, cpuset *hierarchy

	tick   int64 // nanoseconds of one USER_HZ tick; 0: not known
	pwrite func(fd int, b []byte, off int64) (int, error)
	bufs   *sync.Pool // of *[statSize]byte
}

// hierarchy is one mounted cgroup hierarchy.
type hierarchy struct {
	dir     string // where it is mounted
	prefix  string // cgroup that is mounted there: "" but in containers without a cgroup namespace
	unified bool   // cgroup v2
}

// New finds the cgroup hierarchies under o.Root. It writes nothing. A host without a cpu and a cpuacct controller is an error.
func New(o Options) (*FS, error) {
	f := &FS{root: o.Root, proc: o.Proc, log: o.Logger, pwrite: syscall.Pwrite, bufs: &sync.Pool{}}
	if f.root == "" {
		f.root = defaultRoot
	}
	f.root = filepath.Clean(f.root) // as mounts have it
	if f.proc == "" {
		f.proc = defaultProc
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	f.log = f.log.With("pkg", "cgroup")
	if err := f.detect(); err != nil {
		return nil, err
	}
	tick, err := clockTick()
	if err != nil {
		f.log.Warn("length of a clock tick is not known, user and system time stay 0", "err", err)
	}
	f.tick = tick
	return f, nil
}

// Mode is how the host mounts its hierarchies.
func (f *FS) Mode() Mode { return f.mode }

// Root is where cgroups are mounted.
func (f *FS) Root() string { return f.root }

// hierarchies lists those that a cgroup of ours stands in, each once.
func (f *FS) hierarchies() []*hierarchy {
	var out []*hierarchy
next:
	for _, h := range []*hierarchy{f.cpu, f.cpuacct, f.freezer, f.memory} {
		if h == nil {
			continue
		}
		for _, o := range out {
			if o == h {
				continue next
			}
		}
		out = append(out, h)
	}
	return out
}

// at is the directory of the cgroup at path, which cleanPath has passed.
func (h *hierarchy) at(path string) string { return filepath.Join(h.dir, path) }

// visible turns a path as /proc/PID/cgroup has it into one below the directory that h is mounted on.
func (h *hierarchy) visible(path string) (string, error) {
	if h.prefix == "" {
		return path, nil
	}
	rest, ok := cutDir(path, h.prefix)
	if !ok {
		return "", fmt.Errorf("cgroup %q is not below %q, the only part of its hierarchy that is mounted here", path, h.prefix)
	}
	return rest, nil
}

// gone reports whether err says that a cgroup is not there, or no more.
func gone(err error) bool {
	return errors.Is(err, syscall.ENODEV) || errors.Is(err, fs.ErrNotExist)
}
