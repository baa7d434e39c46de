package node

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
)

// task is a launched task and what the node knows of it. The fields below mu's line are guarded by Node.mu.
type task struct {
	Task
	container string // ContainerID
	sandbox   string
	kill      chan struct{}
	lost      chan struct{}

	statuses []Status
	pid      int
	limit    *time.Duration // of the grace, while the agent drains or shuts down
}

func (t *task) note(s Status) { t.statuses = append(t.statuses, s) }

func (t *task) last() State { return t.statuses[len(t.statuses)-1].State }

// grace is what a kill of a task allows.
func (n *Node) grace(t *task) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	g := DefaultGrace
	switch {
	case t.Grace != nil:
		g = *t.Grace
	case t.limit != nil: // it overrides a default, whichever is the longer
		return *t.limit
	}
	if t.limit != nil {
		g = min(g, *t.limit)
	}
	return g
}

// shutdownGrace is an executor's when its agent goes (executor_shutdown_grace_period); kill policies don't count then.
const shutdownGrace = 5 * time.Second

// killPatience bounds how long the end of a container is waited for: a process in uninterruptible sleep may not end.
const killPatience = 10 * time.Second

// run is the life of a task.
func (n *Node) run(t *task) {
	deploy := time.NewTimer(n.o.Deploy)
	defer deploy.Stop()
	select {
	case <-deploy.C:
	case <-t.kill:
		n.report(t, Killed, "Task was killed before its executor registered")
		return
	case <-t.lost:
		n.report(t, n.partition(t.Framework, Gone), "Agent was removed")
		return
	case <-n.stop:
		n.report(t, Killed, "Agent shuts down")
		return
	}
	n.report(t, Starting, "")
	p, err := n.begin(t)
	if err != nil {
		n.log.Warn("task does not start", "task", t.ID, "err", err)
		n.clean(t)
		n.report(t, Failed, err.Error())
		return
	}
	n.report(t, Running, "")
	n.supervise(t, p)
}

// supervise waits for the end of a task's first process, killing it when asked to, and reports how it ended.
func (n *Node) supervise(t *task, p *process) {
	var killed, gone bool
	var escalate <-chan time.Time
	stop := n.stop
	terminate := func(grace time.Duration) {
		if killed && p.docker == "" { // Docker's executor begins anew instead
			return
		}
		if !killed {
			n.report(t, Killing, "")
		}
		killed = true
		p.terminate(grace)
		escalate = time.After(grace)
	}
	for running := true; running; {
		select {
		case <-t.kill:
			terminate(n.grace(t))
		case <-stop:
			stop = nil
			terminate(shutdownGrace)
			escalate = time.After(min(n.grace(t), shutdownGrace))
		case <-escalate:
			escalate = nil
			n.log.Debug("grace is over: sigkill", "task", t.ID)
			p.kill()
		case <-t.lost:
			gone = true
			p.kill()
		case <-p.done:
			running = false
		}
	}
	state, message := outcome(p.state)
	switch {
	case gone:
		state, message = n.partition(t.Framework, Gone), "Agent was removed"
		n.sweep(t, p, 0)
	case killed:
		state = Killed // whatever the exit status
	}
	n.report(t, state, message)
	n.sweep(t, p, time.Second)
}

// outcome words the end of a command as Mesos' command executor does.
func outcome(s *os.ProcessState) (State, string) {
	if s == nil {
		return Failed, "Failed to get exit status of the command"
	}
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return Failed, "Command terminated with signal " + signalName(ws.Signal())
	}
	if s.ExitCode() == 0 {
		return Finished, "Command exited with status 0"
	}
	return Failed, fmt.Sprintf("Command exited with status %d", s.ExitCode())
}

// signalName is strsignal(3) with its first letter upper case.
func signalName(s syscall.Signal) string {
	b := []byte(s.String())
	if len(b) > 0 && b[0] >= 'a' && b[0] <= 'z' {
		b[0] -= 'a' - 'A'
	}
	return string(b)
}

// sweep gives the processes that outlived the task's first one a moment (the agent destroys the container about a second after
// the executor's end), kills them, and removes what the task had.
func (n *Node) sweep(t *task, p *process, patience time.Duration) {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for waiting := true; waiting && len(p.leftovers()) > 0; {
		select {
		case <-deadline.C:
			waiting = false
		case <-tick.C:
		}
	}
	if err := p.destroy(context.Background()); err != nil {
		n.log.Error("container can't be destroyed", "task", t.ID, "container", t.container, "err", err)
		return // its mark stays: the next life tries again
	}
	n.clean(t)
}

// clean removes a task's cgroup and its mark; the sandbox stays, as on an agent.
func (n *Node) clean(t *task) {
	if n.inDocker(t) {
		if err := n.clearDocker(keepDocker); err != nil {
			n.log.Error("containers of ended tasks stay", "err", err)
		}
		return
	}
	if err := n.groups.remove(t.container); err != nil {
		n.log.Error("cgroup stays", "task", t.ID, "container", t.container, "err", err)
		return
	}
	n.unmark(t.container)
}
