package node

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

//go:embed init.sh
var initScript string

// prefix of the cgroups of all nodes.
const prefix = "qosctl-node-"

const (
	startTime = 90 * time.Second // until Docker answers
	stopTime  = 30 * time.Second
)

// Options describe a node.
type Options struct {
	Name    string            // of letters, digits and dashes: of its cgroups and directory, and its host name
	Release string            // Trixie or Forky
	Systemd bool              // its first process is systemd, which starts Docker if the release has one
	V2      bool              // the node sees cgroup v2 alone, with the controllers that this machine's has: most likely not cpu
	Daemon  map[string]any    // added to Docker's daemon.json
	Files   map[string]string // path in the node → file of this machine that is copied there, executable
}

// Node is a running node.
type Node struct {
	o     Options
	dir   string
	cmd   *exec.Cmd
	done  chan struct{}
	waits sync.WaitGroup
	pid   int // of its first process, in this machine's PID namespace

	address string // on its network
	wire    string // this machine's end of its cable
}

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,40}$`)

// Start starts a node and returns when its Docker answers. ctx bounds only the start.
func Start(ctx context.Context, o Options) (*Node, error) {
	if !validName.MatchString(o.Name) {
		return nil, fmt.Errorf("%q is no name of a node", o.Name)
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("nodes need root")
	}
	root, err := Root(ctx, o.flavour())
	if err != nil {
		return nil, err
	}
	n := &Node{o: o, dir: filepath.Join(Cache(), "nodes", o.Name), done: make(chan struct{})}
	if err := n.sweep(); err != nil {
		return nil, fmt.Errorf("sweep what a former node %s left: %w", o.Name, err)
	}
	if err := n.begin(root); err != nil { //nolint:contextcheck // ctx bounds the start, not the node's life
		return nil, errors.Join(fmt.Errorf("start node %s: %w", o.Name, err), n.Stop())
	}
	ctx, stop := context.WithTimeout(ctx, startTime)
	defer stop()
	if err := n.furnish(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start node %s: %w", o.Name, err), n.Stop())
	}
	return n, nil
}

// begin starts the first process.
func (n *Node) begin(root string) error {
	for _, d := range []string{"upper", "work", "root", "docker", "qosctl", "host"} {
		if err := os.MkdirAll(filepath.Join(n.dir, d), 0o755); err != nil {
			return err
		}
	}
	daemon := map[string]any{
		"experimental": true, "live-restore": true, "exec-opts": []string{"native.cgroupdriver=cgroupfs"},
		"runtimes": map[string]any{"qosctl": map[string]any{"path": "/usr/libexec/qosctl/qosctl-runtime"}},
	}
	maps.Copy(daemon, n.o.Daemon)
	b, err := json.Marshal(daemon)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(n.dir, "daemon.json"), b, 0o644); err != nil {
		return err
	}
	if err := n.makeCgroups(); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(n.dir, "init.log"))
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the node's own
	join := n.joinScript() + `exec unshare --mount --pid --fork --kill-child --net --uts --ipc --cgroup sh -c "$1" init "$2" "$3" "$4" "$5" "$6"`
	n.cmd = exec.CommandContext(context.Background(), "sh", "-c", join, "node", initScript, n.o.Name, root, n.dir, strconv.FormatBool(n.o.V2), strconv.FormatBool(n.o.Systemd))
	n.cmd.Stdout, n.cmd.Stderr = log, log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	started := make(chan error, 1)
	n.waits.Go(func() { // ends with the node
		defer close(n.done)
		// Pdeathsig follows the thread that forked, not the process: a thread that ends with another goroutine would take the node with it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := n.cmd.Start()
		started <- err
		if err == nil {
			_ = n.cmd.Wait() // killed, at its end
		}
	})
	return <-started
}

// joinScript puts a shell into the node's cgroups.
func (n *Node) joinScript() string {
	return fmt.Sprintf("for c in /sys/fs/cgroup/*/%[1]s%[2]s/cgroup.procs; do echo $$ >\"$c\"; done\n", prefix, n.o.Name)
}

// furnish waits for the first process and for Docker, and copies the files.
func (n *Node) furnish(ctx context.Context) error {
	for {
		if n.pid == 0 {
			n.pid = childOf(n.cmd.Process.Pid)
		}
		if _, err := os.Stat(n.Path("/run/node.ready")); n.pid != 0 && err == nil {
			break
		}
		if err := n.pause(ctx); err != nil {
			return err
		}
	}
	for path, file := range n.o.Files {
		if err := n.Copy(file, path); err != nil {
			return err
		}
	}
	if n.o.Systemd {
		if err := n.awaitSystemd(ctx); err != nil || n.o.Release == Bookworm {
			return err
		}
	}
	return n.AwaitDocker(ctx)
}

// awaitSystemd returns when systemd has done what it does at boot.
func (n *Node) awaitSystemd(ctx context.Context) error {
	for {
		out, _ := n.Run(ctx, "systemctl", "is-system-running") // not 0 for degraded, which some unit that needs a real machine makes it
		if s := strings.TrimSpace(out); s == "running" || s == "degraded" {
			return nil
		}
		if err := n.pause(ctx); err != nil {
			own, _ := os.ReadFile(filepath.Join(n.dir, "init.log")) // for the error
			return fmt.Errorf("systemd has not booted: %w; %q %s", err, out, tail(own))
		}
	}
}

// flavour is the root file system that a node needs.
func (o Options) flavour() string {
	if o.Systemd {
		return o.Release + withSystemd
	}
	return o.Release
}

// AwaitDocker returns when Docker answers.
func (n *Node) AwaitDocker(ctx context.Context) error {
	for {
		_, err := n.Run(ctx, "docker", "version", "--format", "{{.Server.Version}}")
		if err == nil {
			return nil
		}
		if perr := n.pause(ctx); perr != nil {
			log, _ := os.ReadFile(n.Path("/var/log/dockerd.log")) // for the error
			if n.o.Systemd {
				said, _ := n.Run(context.WithoutCancel(ctx), "journalctl", "--no-pager", "-n", "30", "-u", "docker", "-u", "containerd") // likewise
				log = []byte(said)
			}
			own, _ := os.ReadFile(filepath.Join(n.dir, "init.log"))
			return fmt.Errorf("docker does not answer: %w; %s%s", err, tail(own), tail(log))
		}
	}
}

// pause waits a moment, as long as the node lives.
func (n *Node) pause(ctx context.Context) error {
	t := time.NewTimer(50 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-n.done:
		own, _ := os.ReadFile(filepath.Join(n.dir, "init.log")) // for the error
		return fmt.Errorf("the node has ended: %s", tail(own))
	case <-ctx.Done():
		return ctx.Err()
	}
}

// childOf is the only child of a process; 0: it has none yet.
func childOf(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) == 0 {
		return 0
	}
	child, err := strconv.Atoi(f[0])
	if err != nil {
		return 0
	}
	return child
}

// Find is the process of the node whose command line begins with command, the oldest of several, as this machine numbers it.
func (n *Node) Find(command string) (int, error) {
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", n.pid))
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", command, err)
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	found := 0
	for _, p := range all {
		line, err := os.ReadFile(filepath.Join(p, "cmdline"))
		if err != nil || !strings.HasPrefix(strings.ReplaceAll(string(line), "\x00", " "), command) {
			continue // or it has just ended
		}
		if ns, err := os.Readlink(filepath.Join(p, "ns/pid")); err != nil || ns != own {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(p)); err == nil && (found == 0 || pid < found) {
			found = pid
		}
	}
	if found == 0 {
		return 0, fmt.Errorf("no process of the node is %s", command)
	}
	return found, nil
}

// Command prepares a program to be run in the node, in all its namespaces and cgroups. It ends with the node at the latest, whose first process takes its PID namespace along.
func (n *Node) Command(ctx context.Context, argv ...string) *exec.Cmd {
	enter := n.joinScript() + fmt.Sprintf(`exec nsenter -t %d -m -p -n -u -i -C env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root QOSCTL_E2E_NODE=%s QOSCTL_E2E_V2=%t "$@"`, n.pid, n.o.Release, n.o.V2)
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", enter, "enter"}, argv...)...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Run runs a program in the node and returns what it has written; an error has it too.
func (n *Node) Run(ctx context.Context, argv ...string) (string, error) {
	out, err := n.Command(ctx, argv...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, tail(out))
	}
	return string(out), nil
}

// Path is where a path of the node is found from outside, as long as it runs.
func (n *Node) Path(path string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", n.pid), path)
}

// Copy copies a file of this machine into the node, executable.
func (n *Node) Copy(file, path string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("copy into the node: %w", err)
	}
	to := n.Path(path)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return fmt.Errorf("copy into the node: %w", err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		return fmt.Errorf("copy into the node: %w", err)
	}
	return nil
}

// KillDocker kills dockerd with SIGKILL. It is started again at once, unless away; then by DockerBack.
func (n *Node) KillDocker(ctx context.Context, away bool) error {
	if away {
		if err := os.WriteFile(n.Path("/run/docker.away"), nil, 0o600); err != nil {
			return fmt.Errorf("kill docker: %w", err)
		}
	}
	_, err := n.Run(ctx, "sh", "-c", "kill -9 $(cat /run/docker.pid)")
	return err
}

// DockerBack lets dockerd start again, and waits until it answers.
func (n *Node) DockerBack(ctx context.Context) error {
	if err := os.Remove(n.Path("/run/docker.away")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("let docker start: %w", err)
	}
	return n.AwaitDocker(ctx)
}

// Stop ends the node and removes all that it was. It may be called twice.
func (n *Node) Stop() error {
	if n.cmd != nil && n.cmd.Process != nil {
		if n.pid != 0 {
			_ = syscall.Kill(n.pid, syscall.SIGKILL) // its PID namespace dies with it
		}
		_ = n.cmd.Process.Kill() // has ended, at best
		t := time.NewTimer(stopTime)
		defer t.Stop()
		select {
		case <-n.done:
		case <-t.C:
			return fmt.Errorf("node %s does not end", n.o.Name)
		}
	}
	return n.sweep()
}
