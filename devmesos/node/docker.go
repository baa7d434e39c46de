package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Container is what Mesos' DockerInfo and ContainerInfo say of a task of type DOCKER, beside its image.
type Container struct {
	Network    string      // host, bridge, none, or a network's name; "": host, as Marathon's default
	Privileged bool        //
	ForcePull  bool        // pulled before each run
	Parameters []Parameter // of docker run
	Volumes    []string    // as docker run's -v takes them
	Ports      []string    // as docker run's -p takes them
}

// Parameter is an option of docker run: --KEY=VALUE.
type Parameter struct{ Key, Value string }

// mountedSandbox is where a Docker container finds its task's sandbox (--sandbox_directory of the Mesos agent).
const mountedSandbox = "/mnt/mesos/sandbox"

// dockerName is the name of a container of Mesos' Docker containerizer (DOCKER_NAME_PREFIX, docker.cpp).
func dockerName(containerID string) string { return "mesos-" + containerID }

// inDocker says whether the Docker containerizer runs a task.
func (n *Node) inDocker(t *task) bool {
	return n.o.Docker && t.Docker != nil && t.Image != "" && n.o.Images[t.Image] == ""
}

// dockerArgs are the arguments of docker, in the order of Mesos' Docker::run (docker.cpp).
func (n *Node) dockerArgs(t *task) []string {
	c := t.Docker
	args := []string{"run"}
	if c.Privileged {
		args = append(args, "--privileged")
	}
	args = append(args, "--cpu-shares", strconv.Itoa(max(2, int(t.CPUs*1024))), "--memory", strconv.FormatInt(int64(max(t.MemMiB, 32))<<20, 10))
	for _, e := range n.environment(t, mountedSandbox) {
		if !strings.HasPrefix(e, "PATH=") || t.Env["PATH"] != "" { // the image's, then
			args = append(args, "-e", e)
		}
	}
	args = append(args, "-e", "MESOS_CONTAINER_NAME="+dockerName(t.container))
	for _, v := range append(slices.Clone(c.Volumes), t.sandbox+":"+mountedSandbox) {
		args = append(args, "-v", v)
	}
	network := c.Network
	if network == "" {
		network = "host"
	}
	args = append(args, "--net", network)
	for _, p := range c.Ports {
		args = append(args, "-p", p)
	}
	argv := t.Args
	if t.Command != "" {
		args, argv = append(args, "--entrypoint", "/bin/sh"), []string{"-c", t.Command}
	}
	args = append(args, "--name", dockerName(t.container))
	for _, p := range c.Parameters {
		args = append(args, "--"+p.Key+"="+p.Value)
	}
	return append(append(args, t.Image), argv...)
}

// beginDocker runs a task as Mesos' Docker executor does. It returns when docker inspect shows that the container runs or has run.
func (n *Node) beginDocker(t *task) (*process, error) {
	out, err := n.makeSandbox(t, nil)
	if err != nil {
		return nil, err
	}
	defer out.close()
	if err := n.mark(t, 0); err != nil { // before there is a container
		return nil, err
	}
	if t.Docker.ForcePull {
		if _, err := runDocker(context.Background(), "pull", t.Image); err != nil {
			return nil, fmt.Errorf("pull %s: %w", t.Image, err)
		}
	}
	cmd := exec.Command("docker", n.dockerArgs(t)...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = out.stdout, out.stderr, &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start docker: %w", err)
	}
	p := &process{pid: cmd.Process.Pid, proc: n.o.Proc, container: t.container, groups: noGroups{}, docker: dockerName(t.container), done: make(chan struct{})}
	n.wg.Go(func() {
		_ = cmd.Wait() // the exit status is in ProcessState
		p.state = cmd.ProcessState
		close(p.done)
	})
	n.mu.Lock()
	t.pid = p.pid
	n.mu.Unlock()
	if err := n.mark(t, p.pid); err != nil {
		p.signalTree(syscall.SIGKILL)
		<-p.done
		return nil, errors.Join(err, p.removeDocker())
	}
	p.awaitDocker()
	return p, nil
}

// awaitDocker returns when a container has a process, or its docker run has ended.
func (p *process) awaitDocker() {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-tick.C:
		}
		if pid, err := runDocker(context.Background(), "inspect", "--format", "{{.State.Pid}}", p.docker); err == nil && pid != "0" {
			return
		}
	}
}

// stopDocker asks for the end of a container as Mesos' Docker executor does; a former asking is replaced, so that its grace starts again.
func (p *process) stopDocker(grace time.Duration) {
	if p.stopping != nil {
		p.stopping()
	}
	ctx, cancel := context.WithTimeout(context.Background(), grace+killPatience)
	p.stopping = cancel
	p.stops.Go(func() {
		defer cancel()
		_, _ = runDocker(ctx, "stop", "--time", strconv.Itoa(int(max(grace, time.Second)/time.Second)), p.docker) // its effect is the end of docker run
	})
}

// removeDocker ends and removes a container. One that is not there is as wanted.
func (p *process) removeDocker() error {
	if p.stopping != nil {
		p.stopping()
	}
	p.stops.Wait()
	return removeDocker(p.docker)
}

func removeDocker(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*killPatience)
	defer cancel()
	_, err := runDocker(ctx, "rm", "--force", "--volumes", name)
	if err != nil && strings.Contains(err.Error(), "No such container") {
		return nil
	}
	return err
}

// runDocker runs the docker command and returns the first line that it writes.
func runDocker(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line, nil
}

// checkDocker says why tasks can't be run in Docker.
func checkDocker() error {
	if _, err := exec.LookPath("docker"); err != nil {
		return fmt.Errorf("tasks in Docker: the docker command is needed: %w", err)
	}
	if os.Getuid() != 0 {
		return errors.New("tasks in Docker: root is needed")
	}
	return nil
}
