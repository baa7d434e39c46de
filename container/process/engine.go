// Package process is the engine that runs a container as plain processes in a cgroup of its own, with nothing installed.
//
// Each container has a small shim process, which is this same binary started again: in a session of its own, child subreaper, outside
// of the container's cgroup (it stays in that of who started it, which pays for it). The shim puts the payload into the container's cgroup, starts
// it, keeps its outputs bounded, and when the first process ends kills what is left, takes the last reading of the CPU counter, and
// writes how it ended. All of it is files in one directory per container, so an agent may be killed at any moment and the next one
// finds everything. Were the shim killed, the payload runs on, and only its exit status is lost.
//
// The payload writes its outputs to files, nothing is copied. As with every redirection to a file, and as in Mesos' sandbox, a job that opens
// /dev/stdout or /dev/stderr by name, without >>, empties what it has written before; >&2 does not.
//
// A shim is started by the engine, or by a helper (Serve), so that the agent may be confined and its jobs are not. A systemd unit of an agent
// with this engine, or of such a helper, needs KillMode=process: else the shims, or what they hold, are killed with it.
package process

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"sync"

	"qosctl/cgroup"
	"qosctl/container"
)

// defaultMaxLog bounds an output when Options.MaxLog is 0.
const defaultMaxLog = 16 << 20

// Options sets an engine up.
type Options struct {
	Dir          string            // one directory per container; created if it is missing. Absolute, on a local disk
	Shim         []string          // argv that starts this binary so that it calls ShimMain with the arguments that follow
	Helper       string            // socket of a helper that starts the shims (Serve); "": the engine does
	Cgroups      *cgroup.FS        // of this host
	CgroupRoot   string            // the Root that Cgroups was made with, for the shims; "": the default
	Proc         string            // the Proc that Cgroups was made with; "": /proc
	CgroupParent string            // cgroup that all containers stand below; "": /qosctl
	Images       map[string]string // image → directory whose entries are laid over the host's root
	MaxLog       int64             // bytes of each output that are kept, the newest; 0: 16 MiB, negative: all
	Logger       *slog.Logger      // nil: nothing is logged
}

// Engine implements container.Engine. Several engines may stand on one Dir at once, as those of an agent and its successor do.
type Engine struct {
	o    Options
	log  *slog.Logger
	proc procTable
	boot string
	uid  int

	loads chan struct{} // a place for each load under way

	tree sync.Mutex // the containers of a cgroup parent are counted under it

	mu       sync.Mutex
	children map[int]struct{}          // shims that this process started and has not reaped
	limits   map[string]*cgroup.Limits // kept-open limit files of containers that have not ended, by container
	closers  map[*follower]func()      // open readers of logs
	wg       sync.WaitGroup            // followers and event streams
	held     *os.File                  // locked while this process looks after the containers; nil: it does not
	done     chan struct{}             // closed by Close
	closed   bool
}

var (
	_ container.Engine = (*Engine)(nil)
	_ container.Herald = (*Engine)(nil)
)

// New opens the engine on o.Dir and finds the containers that are there. Without write access to cgroups it returns an error that
// wraps cgroup.ErrNoAccess.
func New(o Options) (*Engine, error) {
	if !filepath.IsAbs(o.Dir) {
		return nil, fmt.Errorf("process engine: directory %q is not absolute", o.Dir)
	}
	if len(o.Shim) == 0 || o.Cgroups == nil {
		return nil, errors.New("process engine: the shim's command line and the host's cgroups are needed")
	}
	if o.Proc == "" {
		o.Proc = "/proc"
	}
	if o.CgroupParent == "" {
		o.CgroupParent = "/qosctl"
	}
	if o.MaxLog == 0 {
		o.MaxLog = defaultMaxLog
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Engine{
		o: o, log: o.Logger.With("pkg", "container/process"), proc: procTable{o.Proc, new(ends)}, uid: os.Geteuid(),
		loads: make(chan struct{}, mostLoads), children: map[int]struct{}{}, limits: map[string]*cgroup.Limits{}, closers: map[*follower]func(){}, done: make(chan struct{}),
	}
	if err := o.Cgroups.AccessBelow(o.CgroupParent); err != nil {
		return nil, fmt.Errorf("process engine: %w", err)
	}
	var err error
	if e.boot, err = e.proc.boot(); err != nil {
		return nil, fmt.Errorf("process engine: %w", err)
	}
	// 0711: a job's own user passes through to its sandbox, and lists nothing.
	if err = os.MkdirAll(o.Dir, 0o711); err != nil {
		return nil, fmt.Errorf("process engine: %w", err)
	}
	e.sweep()
	return e, nil
}

// Name is "process".
func (*Engine) Name() string { return "process" }

// Close ends the engine's readers and event streams and closes its files. Containers run on.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	close(e.done)
	readers := make([]func(), 0, len(e.closers))
	for _, c := range e.closers {
		readers = append(readers, c)
	}
	open := e.limits
	e.limits = map[string]*cgroup.Limits{}
	hold := e.held
	e.mu.Unlock()

	e.proc.ends.close()
	for _, c := range readers {
		c()
	}
	e.wg.Wait()
	var errs []error
	for _, l := range open {
		errs = append(errs, l.Close())
	}
	if hold != nil {
		errs = append(errs, hold.Close())
	}
	return errors.Join(errs...)
}

var idPattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// dir is the directory of a container.
func (e *Engine) dir(id string) (string, error) {
	if !idPattern.MatchString(id) {
		return "", fmt.Errorf("container %q: %w: an id has letters, digits, dots, dashes and underscores, at most 128", id, container.ErrNotFound)
	}
	return filepath.Join(e.o.Dir, id), nil
}
