package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"qosctl/agent"
)

// devMark is what a dev notes in its lock while it runs, for whoever clears up after it if it is killed: its guard, or else the next dev.
type devMark struct {
	PID   int        `json:"pid"`
	Keep  bool       `json:"keep"` // the directory is to stay
	Nodes []nodeMark `json:"nodes"`
}

// nodeMark is what there is to clear up of a node.
type nodeMark struct {
	Dir   string `json:"dir"`
	Agent string `json:"agent"` // cgroup of the agent's containers
	Mesos string `json:"mesos"` // cgroup of the scheduler's tasks, perhaps with other schedulers' beside them
	Marks string `json:"marks"` // directory with a file for each of those tasks, by its cgroup's name

	Docker      string `json:"docker,omitempty"`      // address of the Docker that has containers of it
	Checkpoints string `json:"checkpoints,omitempty"` // directory of its checkpoints
}

func (m *devMark) add(n nodeMark) { m.Nodes = append(m.Nodes, n) }

// lastsAtMost is how long the children of a dev that was killed may take to end: what they are given otherwise, and a bit.
const lastsAtMost = 20 * time.Second

// clearTime bounds the removal of what a dev has made.
const clearTime = 20 * time.Second

// sweep ends what a dev that was killed has left running, and removes what it has made. The directory is ours.
func (d *devDirectory) sweep(ctx context.Context) error {
	dead := d.dead
	if dead == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lastsAtMost+10*time.Second)
	defer cancel()
	if err := d.childrenEnded(ctx); err != nil {
		return err
	}
	var errs []error
	for _, n := range dead.Nodes {
		errs = append(errs, n.clear(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clear up after a dev that was killed: %w", err)
	}
	d.dead = nil
	return d.clear(dead.Keep)
}

// clear ends what runs of a node whose processes have been killed, and removes its cgroups, containers and checkpoints.
func (n nodeMark) clear(ctx context.Context) error {
	c := agent.Default()
	groups := &c.Cgroup
	groups.Parent, c.Engine.Docker, c.Checkpoint.Dir, c.DataDir = n.Agent, n.Docker, n.Checkpoints, filepath.Join(n.Dir, "data")
	errs := []error{c.Clear(ctx), groups.Clear(ctx)}
	tasks, err := os.ReadDir(n.Marks)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, t := range tasks {
		groups.Parent = filepath.Join(n.Mesos, t.Name())
		errs = append(errs, groups.Clear(ctx))
	}
	return errors.Join(errs...)
}

// childrenEnded waits until the agent and the scheduler have ended: they were told to when dev died, and hold locks until then.
func (d *devDirectory) childrenEnded(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lastsAtMost)
	defer cancel()
	locks := []string{filepath.Join(d.path, "devmesos", "lock")}
	for _, n := range d.dead.Nodes {
		locks = append(locks, filepath.Join(n.Dir, "data", "containers.held"))
	}
	for _, lock := range locks {
		for !unlocked(lock) {
			if err := sleep(ctx, 100*time.Millisecond); err != nil {
				return &exitStatus{exitConflict, withHint(fmt.Errorf("a dev that was killed has left a process behind that holds %s", lock),
					"`fuser` of that file shows which; end it, or give this dev its own --dir")}
			}
		}
	}
	return nil
}

// unlocked says that no process holds a file's lock.
func unlocked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return true
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == nil
}

// readMark reads the mark of a dev that was killed or runs; nil after one that has ended.
func readMark(r io.Reader) *devMark {
	var m devMark
	if err := json.NewDecoder(io.LimitReader(r, 64<<10)).Decode(&m); err != nil || len(m.Nodes) == 0 {
		return nil
	}
	for _, n := range m.Nodes {
		if n.Dir == "" || n.Agent == "" || n.Mesos == "" {
			return nil
		}
	}
	return &m
}

// lives says whether a dev's process is there; one that nobody has waited for yet is not.
func (m *devMark) lives() bool {
	if m == nil {
		return true
	}
	_, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(m.PID), "exe"))
	return !errors.Is(err, os.ErrNotExist)
}

// newGuardCmd is the process that `qosctl dev` starts to clear up after it if it is killed.
func newGuardCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "devguard DIR",
		Short:   "Clear up after a dev that is killed (`qosctl dev` starts this)",
		Example: "  qosctl devguard /tmp/qosctl-dev-0 </dev/null",
		Args:    args(cobra.ExactArgs(1)),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			return a.runGuard(context.WithoutCancel(cmd.Context()), args[0])
		}),
	}
}

// runGuard waits for dev's end, and clears up if dev has not said that it ends as it should. A signal doesn't keep it from that.
func (a *app) runGuard(ctx context.Context, dir string) error {
	defer surviveBrokenPipe()()
	if n, err := io.Copy(io.Discard, a.in); err != nil {
		return fmt.Errorf("wait for dev: %w", err)
	} else if n > 0 {
		return nil // dev's word that it has ended as it should
	}
	if _, err := os.Stat(filepath.Join(dir, "lock")); err != nil {
		return nil // nothing is left
	}
	d, err := openDevDir(ctx, dir)
	if exitCodeOf(err) == exitConflict {
		return nil // the next dev has come, and clears up
	} else if err != nil {
		return err
	}
	defer d.close()
	if d.dead == nil {
		return nil
	}
	fmt.Fprintln(a.err, "qosctl dev was killed: ending its jobs and removing what it made")
	keep := d.dead.Keep
	if err := d.sweep(ctx); err != nil {
		return err // the next dev finds all it needs to try again
	}
	return d.remove(keep)
}

// startGuard starts the guard of dir. stop tells it that there is nothing to do and waits for its end.
func (a *app) startGuard(self, dir string) (stop func(), err error) {
	cmd := exec.Command(self, "devguard", dir) //nolint:noctx // it outlives us: that is what it is for
	cmd.Env = childEnv(a.environ)
	if f, ok := a.err.(*os.File); ok {
		cmd.Stderr = f
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what ends a terminal's processes is not for it
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start dev's guard: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start dev's guard: %w", err)
	}
	return func() {
		_, _ = io.WriteString(in, "end\n") // it may have been killed: no matter
		_ = in.Close()
		_ = cmd.Wait()
	}, nil
}

// surviveBrokenPipe makes writing to a standard output that nobody reads any more an error, not the end of the process: an agent whose
// supervisor or `tee` was killed still stops in order. Processes that it starts are not concerned, as they would be if it was ignored.
func surviveBrokenPipe() (stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGPIPE)
	return func() { signal.Stop(c) }
}
