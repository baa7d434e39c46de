package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"qosctl/cgroup"
	"qosctl/container"
)

// reply is what a shim reports through its pipe: the zero reply is success.
type reply struct {
	Started bool   `json:"started,omitempty"` // refused: it was started before
	Error   string `json:"error,omitempty"`
}

// maxReply bounds what is read of a reply.
const maxReply = 64 << 10

// Start makes the container's cgroup, with its limits, and a shim that starts the payload in it. If ctx ends before the shim has
// answered, or the shim dies, the container may run all the same: the error wraps container.ErrStarted then.
func (e *Engine) Start(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, err := e.load(id)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if r.state != container.Created || r.starting {
		return fmt.Errorf("start container %s: %w", id, container.ErrStarted)
	}
	g, err := e.o.Cgroups.Create(r.conf.Cgroup)
	if err == nil {
		err = e.apply(id, r.conf.Cgroup, g, r.conf.Spec.Limits)
	}
	var rep reply
	var shim int
	if err == nil {
		rep, shim, err = e.begin(ctx, r)
	}
	switch {
	case err != nil:
		err = e.doubt(r, shim, err)
	case rep.Started:
		err = container.ErrStarted
	case rep.Error != "":
		err = errors.Join(errors.New(rep.Error), e.forgetLimits(id))
	default:
		return nil
	}
	return fmt.Errorf("start container %s: %w", id, err)
}

// doubt looks where a container stands whose start failed with cause and without a shim's word, and says so if its command may run or
// have run, by another engine too. shim is the pid of the one that was started, 0: none.
func (e *Engine) doubt(before *record, shim int, cause error) error {
	lives := false
	if shim != 0 {
		_, err := e.proc.identify(shim)
		lives = err == nil // and may yet do anything
	}
	r, err := e.load(before.id)
	switch {
	case lives, err != nil && shim != 0, err == nil && (r.starting || r.hasRun || r.fault != nil || r.state == container.Running):
		return fmt.Errorf("%w; its command may run: %w", cause, container.ErrStarted)
	case err != nil || r.state == container.Exited: // removed meanwhile, or its shim was killed before it let the command run
		return cause
	}
	err = e.forgetLimits(r.id)
	if shim == 0 {
		err = errors.Join(err, e.o.Cgroups.Remove(before.conf.Cgroup))
	}
	return errors.Join(cause, err)
}

// begin starts a shim, by the helper if there is one, and reads its reply; pid is 0 if none was started.
func (e *Engine) begin(ctx context.Context, r *record) (rep reply, pid int, err error) {
	if e.o.Helper != "" {
		return e.ask(ctx, r.id)
	}
	return e.spawn(ctx, r.dir)
}

// spawn starts a shim and reads its reply; pid is 0 if none was started. The shim is a child of ours until we end, and is reaped when its
// container is next looked at.
func (e *Engine) spawn(ctx context.Context, dir string) (rep reply, pid int, err error) {
	logf, err := os.OpenFile(filepath.Join(dir, shimLogName), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return reply{}, 0, err
	}
	defer logf.Close() //nolint:errcheck // the shim's
	null, err := os.Open(os.DevNull)
	if err != nil {
		return reply{}, 0, err
	}
	defer null.Close() //nolint:errcheck // nothing was written
	pr, pw, err := os.Pipe()
	if err != nil {
		return reply{}, 0, err
	}
	defer pr.Close() //nolint:errcheck // nothing was written

	argv := append(append([]string{"qosctl"}, e.o.Shim[1:]...), stageRun, dir)
	p, err := os.StartProcess(e.o.Shim[0], argv, &os.ProcAttr{
		Dir: "/", Env: shimEnv(), Files: []*os.File{null, logf, logf, pw},
		Sys: &syscall.SysProcAttr{Setsid: true}, // what is sent to the agent's session or group does not reach it
	})
	if err != nil {
		return reply{}, 0, errors.Join(fmt.Errorf("start a shim: %w", err), pw.Close())
	}
	pid = p.Pid
	e.mu.Lock()
	e.children[pid] = struct{}{}
	e.mu.Unlock()
	if err = errors.Join(p.Release(), pw.Close()); err == nil {
		rep, err = e.hear(ctx, pr, pid)
	}
	return rep, pid, err
}

// hear reads a shim's reply.
func (e *Engine) hear(ctx context.Context, pr *os.File, pid int) (reply, error) {
	stop := context.AfterFunc(ctx, func() { _ = pr.SetReadDeadline(time.Unix(1, 0)) }) // wakes the read below
	defer stop()
	b, err := io.ReadAll(io.LimitReader(pr, maxReply))
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return reply{}, fmt.Errorf("hear from the shim: %w", err)
	}
	var rep reply
	mute := json.Unmarshal(b, &rep) != nil
	if mute || rep.Started || rep.Error != "" { // it ends now, unless the disk is full; wait so that it is gone when Start returns
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err = e.proc.waitChild(ctx, pid); err == nil {
			e.reap(pid)
		}
	}
	if mute {
		return reply{}, silent(pid)
	}
	return rep, nil
}

// shimEnv keeps a shim small, and the agent's environment out of it.
func shimEnv() []string {
	return []string{"GOMAXPROCS=1", "GOGC=20", "PATH=" + defaultPath}
}

// apply sets limits; a zero field is left as it is. The kernel's values are read first, and equal ones not written.
func (e *Engine) apply(id, path string, g cgroup.Group, l container.Limits) error {
	lim, err := e.open(id, g)
	if err != nil {
		return err
	}
	if l.CPUs != 0 {
		changed, err := lim.SetCPUs(l.CPUs)
		if err != nil {
			return err
		}
		e.log.Debug("cpu limit", "container", id, "cpus", l.CPUs, "written", changed)
	}
	if l.Shares != 0 {
		s := l.Shares
		if s < 0 {
			s = 1 // the kernel's default
		}
		if _, err = lim.SetShares(s); err != nil {
			return err
		}
	}
	if l.MemBytes != 0 {
		return e.o.Cgroups.SetMemory(path, l.MemBytes)
	}
	return nil
}

// open gives the kept-open limits of a container. ErrNotRunning if it has ended: a look from before must not open what its end has closed.
func (e *Engine) open(id string, g cgroup.Group) (*cgroup.Limits, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l, ok := e.limits[id]; ok {
		return l, nil
	}
	if exists(filepath.Join(e.o.Dir, id, exitName)) { // with the mutex held: whoever found this file before closes after us
		return nil, container.ErrNotRunning
	}
	l, err := e.o.Cgroups.OpenLimits(g)
	if err == nil && !e.closed {
		e.limits[id] = l
	}
	return l, err
}

// forgetLimits closes them.
func (e *Engine) forgetLimits(id string) error {
	e.mu.Lock()
	l, ok := e.limits[id]
	delete(e.limits, id)
	e.mu.Unlock()
	if !ok {
		return nil
	}
	return l.Close()
}
