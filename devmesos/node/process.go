package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// gate waits until the process stands in its cgroup and only then becomes the command: fd 3 is a pipe from the node. If the node
// dies first, the pipe ends and so does the gate.
const gate = `read -r go <&3 || exit 125; exec 3<&-; exec "$@"`

// process is a task's first process and what hangs on it.
type process struct {
	pid       int
	proc      string
	container string
	groups    groups
	docker    string             // name of its container in Docker; "": it has none
	stopping  context.CancelFunc // of the docker stop at work
	stops     sync.WaitGroup     // docker stops
	done      chan struct{}      // closed when it has been reaped
	state     *os.ProcessState
}

// begin starts a task's command in its sandbox and cgroup.
func (n *Node) begin(t *task) (*process, error) {
	if n.inDocker(t) {
		return n.beginDocker(t)
	}
	who, err := lookupUser(t.User)
	if err != nil {
		return nil, err
	}
	argv := t.Args
	if t.Command != "" {
		argv = []string{"/bin/sh", "-c", t.Command}
	}
	if len(argv) == 0 {
		return nil, errors.New("task has no command: the development scheduler runs commands only, not an image's entry point")
	}
	attr := &syscall.SysProcAttr{Setsid: true}
	full := append([]string{"-c", gate, "gate"}, argv...)
	if t.Image != "" {
		full, err = n.imageCommand(t, who, argv)
		if err != nil {
			return nil, err
		}
		attr.Cloneflags = syscall.CLONE_NEWNS
	} else if who != nil {
		attr.Credential = &syscall.Credential{Uid: who.uid, Gid: who.gid, Groups: who.groups}
	}
	out, err := n.makeSandbox(t, who)
	if err != nil {
		return nil, err
	}
	defer out.close()
	if err := n.groups.create(t.container, t.CPUs); err != nil {
		return nil, fmt.Errorf("create cgroup of container %s: %w", t.container, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start task: %w", err)
	}
	defer w.Close()
	cmd := exec.Command("/bin/sh", full...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = t.sandbox, n.environment(t, t.sandbox), attr
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out.stdout, out.stderr, []*os.File{r}
	err = cmd.Start()
	_ = r.Close() // the process has its own
	if err != nil {
		return nil, fmt.Errorf("start task: %w", err)
	}
	p := &process{pid: cmd.Process.Pid, proc: n.o.Proc, container: t.container, groups: n.groups, done: make(chan struct{})}
	n.wg.Go(func() {
		_ = cmd.Wait() // the exit status is in ProcessState; no pipes of ours are copied
		p.state = cmd.ProcessState
		close(p.done)
	})
	if err := n.release(t, p, w); err != nil {
		_ = w.Close() // the gate reads the end, and gives up
		<-p.done
		return nil, err
	}
	return p, nil
}

// release puts a gated process into its cgroup, marks it as running on disk, and lets it go.
func (n *Node) release(t *task, p *process, w *os.File) error {
	if err := n.groups.join(t.container, p.pid); err != nil {
		return fmt.Errorf("put task into its cgroup: %w", err)
	}
	if err := n.mark(t, p.pid); err != nil {
		return err
	}
	n.mu.Lock()
	t.pid = p.pid
	n.mu.Unlock()
	if _, err := w.WriteString("go\n"); err != nil {
		return fmt.Errorf("release task: %w", err)
	}
	return nil
}

type outputs struct{ stdout, stderr *os.File }

func (o outputs) close() {
	_, _ = o.stdout.Close(), o.stderr.Close() // only the process writes to them
}

func (n *Node) makeSandbox(t *task, who *identity) (outputs, error) {
	var o outputs
	err := os.MkdirAll(t.sandbox, 0o755)
	if err == nil {
		o.stdout, err = os.OpenFile(filepath.Join(t.sandbox, "stdout"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	}
	if err == nil {
		o.stderr, err = os.OpenFile(filepath.Join(t.sandbox, "stderr"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			_ = o.stdout.Close() // nothing was written
		}
	}
	if err != nil {
		return o, fmt.Errorf("make sandbox: %w", err)
	}
	if err := n.fetch(t, who); err != nil {
		o.close()
		return o, err
	}
	if who == nil {
		return o, nil
	}
	for _, f := range []string{t.sandbox, o.stdout.Name(), o.stderr.Name()} {
		if err := os.Chown(f, int(who.uid), int(who.gid)); err != nil {
			o.close()
			return o, fmt.Errorf("give sandbox to user %s: %w", t.User, err)
		}
	}
	return o, nil
}

// environment is what a task gets: the agent's PATH, Mesos' own variables, then those of the framework, which win.
func (n *Node) environment(t *task, sandbox string) []string {
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	env := map[string]string{
		"PATH": path, "MESOS_SANDBOX": sandbox, "MESOS_DIRECTORY": t.sandbox, "MESOS_EXECUTOR_ID": t.ID,
		"MESOS_FRAMEWORK_ID": n.FrameworkID(t.Framework), "MESOS_SLAVE_ID": n.id,
	}
	maps.Copy(env, n.o.ExecutorEnv)
	maps.Copy(env, t.Env)
	list := make([]string, 0, len(env))
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return list
}

// signalTree signals a task's whole tree as stout's killtree does: all are stopped, signalled, and continued.
func (p *process) signalTree(sig syscall.Signal) {
	pids := tree(p.proc, p.pid)
	for _, s := range []syscall.Signal{syscall.SIGSTOP, sig, syscall.SIGCONT} {
		for _, pid := range pids {
			_ = syscall.Kill(pid, s) // one that has ended meanwhile is what was wanted
		}
	}
}

// terminate asks a task to end within a grace: by SIGTERM to the tree, or by docker stop.
func (p *process) terminate(grace time.Duration) {
	if p.docker != "" {
		p.stopDocker(grace)
		return
	}
	p.signalTree(syscall.SIGTERM)
}

// kill ends a task at once.
func (p *process) kill() {
	if p.docker != "" {
		_, _ = runDocker(context.Background(), "kill", p.docker) // one that has ended is as wanted
		return
	}
	p.signalTree(syscall.SIGKILL)
}

// leftovers are the processes of the container that are still alive.
func (p *process) leftovers() []int {
	if pids, ok := p.groups.procs(p.container); ok {
		return pids
	}
	return session(p.proc, p.pid)
}

// destroy kills all that is left of the container.
func (p *process) destroy(ctx context.Context) error {
	if p.docker != "" {
		p.stops.Wait()
	}
	for _, pid := range session(p.proc, p.pid) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return p.groups.kill(ctx, p.container)
}

type identity struct {
	uid, gid uint32
	groups   []uint32
}

// lookupUser resolves the user of a task; nil means the scheduler's own.
func lookupUser(name string) (*identity, error) {
	if name == "" {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("look up user of the task: %w", err)
	}
	uid, gid := number(u.Uid), number(u.Gid)
	if int(uid) == os.Getuid() {
		return nil, nil
	}
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("run task as user %s: the development scheduler does not run as root", name)
	}
	id := &identity{uid: uid, gid: gid}
	gids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("look up groups of user %s: %w", name, err)
	}
	for _, g := range gids {
		id.groups = append(id.groups, number(g))
	}
	return id, nil
}

func number(s string) uint32 {
	v, _ := strconv.ParseUint(s, 10, 32) // numeric on every Unix
	return uint32(v)
}
