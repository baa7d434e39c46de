package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"qosctl/agent/api"
)

const (
	readyIn   = 30 * time.Second // from the start of qosctl dev
	stoppedIn = 40 * time.Second // qosctl dev ends its jobs first
)

type devOptions struct {
	qosctl, dir, policy, image string
	cpus                       int
	keep                       bool
}

// args are its flags: everything of its own, so that a development setup that somebody works with is left alone.
func (o devOptions) args(ports []string) []string {
	args := []string{
		"dev", "--dir", filepath.Join(o.dir, "dev"), "--policy", o.policy, "--map-image", o.image, "--cpus", strconv.Itoa(o.cpus),
		"--cgroup-parent", cgroupParent(),
		"--marathon", ports[0], "--chronos", ports[1], "--mesos", ports[2], "--listen", ports[3],
	}
	if o.keep {
		args = append(args, "--keep")
	}
	return args
}

// cgroupParent is what everything of this demo stands below, in each hierarchy.
func cgroupParent() string { return "qosctl-demo-" + strconv.Itoa(os.Getpid()) }

// dev is a running `qosctl dev`.
type dev struct {
	cmd     *exec.Cmd
	address string // of the agent's admin socket
	apps    string // Marathon's address
	log     string
	ended   chan struct{} // closed when it has ended
	err     error         // how, once it has
	waiting sync.WaitGroup
}

// startDev starts `qosctl dev` in a session of its own, so that a Ctrl-C reaches the demo alone, which then ends things in order.
func startDev(ctx context.Context, o devOptions) (*dev, error) {
	ports, err := freePorts(4)
	if err != nil {
		return nil, err
	}
	d := &dev{
		address: filepath.Join(o.dir, "dev", "run", "qosctl.sock"),
		log:     filepath.Join(o.dir, "dev.log"),
		apps:    ports[0],
		ended:   make(chan struct{}),
	}
	log, err := os.Create(d.log)
	if err != nil {
		return nil, fmt.Errorf("make the log of qosctl dev: %w", err)
	}
	defer log.Close()
	d.cmd = exec.CommandContext(context.WithoutCancel(ctx), o.qosctl, o.args(ports)...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start qosctl dev (make build makes it): %w", err)
	}
	d.waiting.Go(func() {
		d.err = d.cmd.Wait()
		close(d.ended)
	})
	return d, nil
}

// freePorts returns so many addresses on loopback that nobody listens on.
func freePorts(n int) ([]string, error) {
	var all []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close() // at the end, so that each is another one
		all = append(all, l.Addr().String())
	}
	return all, nil
}

// ready waits until the agent answers and reaches both frameworks.
func (d *dev) ready(ctx context.Context, client *api.Client) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyIn, fmt.Errorf("not ready within %s", readyIn))
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := client.Ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-d.ended:
			return d.died()
		case <-ctx.Done():
			return fmt.Errorf("wait for qosctl dev: %w: %w%s", context.Cause(ctx), err, d.lastWords())
		}
	}
}

// died is the error of a qosctl dev that ended by itself.
func (d *dev) died() error {
	if d.err == nil {
		return fmt.Errorf("qosctl dev has ended by itself%s", d.lastWords())
	}
	return fmt.Errorf("qosctl dev has ended by itself: %w%s", d.err, d.lastWords())
}

// lastWords are the last lines of its log.
func (d *dev) lastWords() string {
	data, err := os.ReadFile(d.log)
	if err != nil || len(data) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return "\nits last words:\n  " + strings.Join(lines[max(0, len(lines)-12):], "\n  ")
}

// stop has it end its jobs and itself, and removes the cgroups, which are empty then.
func (d *dev) stop() error {
	return errors.Join(d.end(), removeCgroups())
}

// removeCgroups removes cgroupParent from every hierarchy, deepest first. One that holds a process is an error: something still runs.
func removeCgroups() error {
	var dirs []string
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		tops, err := filepath.Glob(filepath.Join(root, cgroupParent()))
		if err != nil {
			return fmt.Errorf("find the demo's cgroups: %w", err)
		}
		for _, top := range tops {
			err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					dirs = append(dirs, path)
				}
				return err
			})
			if err != nil {
				return fmt.Errorf("list the demo's cgroups: %w", err)
			}
		}
	}
	for _, dir := range slices.Backward(dirs) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove a cgroup of the demo: %w", err)
		}
	}
	return nil
}

// end stops it; if it does not end in time, it is killed, and that is an error.
func (d *dev) end() error {
	defer d.waiting.Wait()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop qosctl dev: %w", err)
	}
	timer := time.NewTimer(stoppedIn)
	defer timer.Stop()
	select {
	case <-d.ended:
		return nil
	case <-timer.C:
	}
	err := d.cmd.Process.Kill()
	<-d.ended
	return errors.Join(fmt.Errorf("qosctl dev did not end within %s and was killed%s", stoppedIn, d.lastWords()), err)
}

// agent is the process id of the agent, a child of qosctl dev; 0: there is none at the moment.
func (d *dev) agent() int {
	pid := strconv.Itoa(d.cmd.Process.Pid)
	tasks, err := filepath.Glob(filepath.Join("/proc", pid, "task", "*", "children"))
	if err != nil {
		return 0
	}
	for _, t := range tasks {
		children, err := os.ReadFile(t)
		if err != nil {
			continue
		}
		for c := range strings.FieldsSeq(string(children)) {
			line, err := os.ReadFile(filepath.Join("/proc", c, "cmdline"))
			if err == nil && slices.Contains(strings.Split(string(line), "\x00"), "agent") {
				child, _ := strconv.Atoi(c)
				return child
			}
		}
	}
	return 0
}
