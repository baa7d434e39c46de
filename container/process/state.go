package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"qosctl/cgroup"
	"qosctl/container"
)

// config is what Create wrote: all that the shim needs to know.
type config struct {
	Spec       container.Spec `json:"spec"`
	Created    time.Time      `json:"created"`
	Image      string         `json:"image_dir,omitempty"` // directory that the image maps to
	Cgroup     string         `json:"cgroup"`              // below each hierarchy's root
	CgroupRoot string         `json:"cgroup_root,omitempty"`
	Proc       string         `json:"proc"`
	MaxLog     int64          `json:"max_log"`
}

// running is what the shim wrote before it let the payload run.
type running struct {
	identity
	Shim    identity     `json:"shim"`
	Boot    string       `json:"boot"`
	Started time.Time    `json:"started"`
	Cgroup  string       `json:"cgroup"`
	Group   cgroup.Group `json:"group"`
}

// record is all that a container's directory says.
type record struct {
	id, dir  string
	conf     config
	run      running
	hasRun   bool // run could be read
	exit     container.Exit
	state    container.State
	starting bool // Created, and a shim is at work
	shim     int  // pid of the shim that lives; 0: none
	fault    error
}

// cgroup is the path of the container's cgroup, "" if no file says it. A spoilt file must not lead to somebody else's cgroup: the last
// name of the path is the container's.
func (r *record) cgroup() string {
	for _, p := range []string{r.conf.Cgroup, r.run.Cgroup} {
		if path.Base(p) == r.id && path.Clean(p) == p && path.IsAbs(p) {
			return p
		}
	}
	return ""
}

// settleGrace bounds how long the leftovers of a container whose shim is gone may take to die.
const settleGrace = 10 * time.Second

// mostLoads are read at once. An agent that starts takes up all its containers together: each with a thread that waits for the disk, and a stack
// that decoding has made deep, they were half of its memory.
const mostLoads = 8

// load reads a container's directory and finds out where it stands. The order matters: a shim takes the lock, then makes the file
// started, then pid.json, then exit.json. So once started is there and the lock is free, no shim will ever change anything again.
func (e *Engine) load(id string) (*record, error) {
	e.loads <- struct{}{}
	defer func() { <-e.loads }()
	dir, err := e.dir(id)
	if err != nil {
		return nil, err
	}
	r := &record{id: id, dir: dir, state: container.Created}
	if _, err = os.Lstat(dir); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("container %s: %w", id, container.ErrNotFound)
		}
		return nil, fmt.Errorf("container %s: %w", id, err)
	}
	r.fault = readFile(dir, configName, &r.conf)
	if errors.Is(r.fault, fs.ErrNotExist) && !exists(dir) { // removed under our eyes
		return nil, fmt.Errorf("container %s: %w", id, container.ErrNotFound)
	}
	if !exists(filepath.Join(dir, startedName)) {
		if r.fault != nil { // it can never be started
			r.state, r.exit = container.Exited, container.Exit{Code: container.CodeUnknown, Unknown: true, Reason: r.fault.Error()}
		}
		return r, nil
	}
	if r.shim, err = lockHolder(dir); err != nil {
		return nil, fmt.Errorf("container %s: %w", id, err)
	}
	if err = readFile(dir, pidName, &r.run); err == nil {
		r.hasRun = true
	} else if !errors.Is(err, fs.ErrNotExist) {
		r.fault = errors.Join(r.fault, err)
	}
	err = readFile(dir, exitName, &r.exit)
	switch {
	case err == nil:
		r.state = container.Exited
	case !errors.Is(err, fs.ErrNotExist):
		r.state, r.exit = container.Exited, container.Exit{Code: container.CodeUnknown, Unknown: true, Reason: err.Error()}
	case r.shim != 0 && !r.hasRun && r.fault == nil:
		r.starting = true
	case r.shim != 0 || e.orphan(r):
		r.state = container.Running
	default:
		e.settle(r)
	}
	if r.state == container.Exited {
		e.reap(r.run.Shim.PID)
		if err = e.forgetLimits(id); err != nil {
			e.log.Debug("close limits", "container", id, "err", err)
		}
	}
	return r, nil
}

// orphan reports whether the payload of a container whose shim was killed still runs.
func (e *Engine) orphan(r *record) bool {
	if r.hasRun {
		return r.run.Boot == e.boot && e.proc.alive(r.run.identity)
	}
	if r.fault == nil || r.cgroup() == "" {
		return false
	}
	pids, err := e.o.Cgroups.Procs(r.cgroup()) // pid.json is spoilt: what is in the cgroup is all we know
	return err == nil && len(pids) > 0
}

// settle writes the end of a container that no shim watched to its end: what is left of it is killed, its CPU time read.
func (e *Engine) settle(r *record) {
	ctx, cancel := context.WithTimeout(context.Background(), settleGrace)
	defer cancel()
	r.state = container.Exited
	r.exit = container.Exit{Code: container.CodeUnknown, Unknown: true, Finished: time.Now(), Reason: "its shim was killed, nobody saw how it ended"}
	switch {
	case r.fault != nil:
		r.exit.Reason = r.fault.Error()
	case !r.hasRun:
		r.exit.Reason = "its shim was killed before its command ran"
	case r.run.Boot != e.boot:
		r.exit.Reason = "the node was restarted"
	}
	if p := r.cgroup(); p != "" {
		if err := e.o.Cgroups.Kill(ctx, p); err != nil && !errors.Is(err, cgroup.ErrGone) {
			e.log.Warn("kill what is left of a container", "container", r.id, "err", err)
		}
		if r.hasRun && r.run.Boot == e.boot {
			r.exit.CPU = lastUsage(e.o.Cgroups, r.run.Group)
		}
	}
	err := writeOnce(r.dir, exitName, r.exit)
	if errors.Is(err, fs.ErrExist) { // another engine was faster
		err = readFile(r.dir, exitName, &r.exit)
	}
	if err != nil && exists(r.dir) {
		e.log.Error("write a container's end", "container", r.id, "err", err)
		return
	}
	e.log.Warn("container ended unseen", "container", r.id, "reason", r.exit.Reason)
}

// lastUsage is the CPU time of a cgroup, 0 if it can't be read.
func lastUsage(f *cgroup.FS, g cgroup.Group) time.Duration {
	rd, err := f.OpenReader(g)
	if err != nil {
		return 0
	}
	defer rd.Close() //nolint:errcheck // nothing was written
	u, err := rd.Usage()
	if err != nil {
		return 0
	}
	return u
}

// lockHolder is the pid of the shim that holds a container's lock, 0 if none does. It asks without taking the lock.
func lockHolder(dir string) (int, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("ask for the shim: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if err = unix.FcntlFlock(f.Fd(), unix.F_GETLK, &l); err != nil {
		return 0, fmt.Errorf("ask for the shim: %w", err)
	}
	if l.Type == unix.F_UNLCK {
		return 0, nil
	}
	return int(l.Pid), nil
}

// reap collects a shim that this process started and that has ended, if there is one by that pid.
func (e *Engine) reap(pid int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.children[pid]; !ok {
		return
	}
	if got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); got == pid || err != nil {
		delete(e.children, pid)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
