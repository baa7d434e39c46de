package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"qosctl/container"
	"qosctl/gossip"
	"qosctl/qos"
)

// simJob is a job that somebody submitted.
type simJob struct {
	id, name  string
	cancelled bool
}

// agents are those that run, by node.
func (w *world) agents() map[string]*Agent {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := map[string]*Agent{}
	for _, n := range w.nodes {
		if n.agent != nil {
			m[n.name] = n.agent
		}
	}
	return m
}

// oneAtMost checks that no job has two containers that run, from the time on that the world is calm. The caller holds mu.
func (w *world) oneAtMost() {
	if w.calm.IsZero() || time.Now().Before(w.calm) {
		return
	}
	for _, j := range w.jobs {
		if r := w.runningOf(j.id); len(r) > 1 {
			w.fault("two containers of %s run: %s on %s and %s on %s", j.name, short(r[0].ID), r[0].node, short(r[1].ID), r[1].node)
		}
	}
}

// runningOf are the containers of a job that run. The caller holds mu.
func (w *world) runningOf(job string) (list []*simContainer) {
	for _, n := range w.nodes {
		for _, c := range n.containers {
			if c.job == job && c.State == container.Running {
				list = append(list, c)
			}
		}
	}
	return list
}

// seen is what a node's table has said of a job's account.
type seen struct {
	life      int
	execution int
	consumed  time.Duration
}

// observe looks each second at what each node says of each job: an account never falls, and never says more than the kernel has counted.
func (w *world) observe(ctx context.Context) {
	last := map[string]seen{}
	for pause(ctx, time.Second+311*time.Nanosecond) {
		for name, a := range w.agents() {
			for _, r := range a.cluster.mesh.All() {
				e := r.Status.Execution
				if e == nil {
					continue
				}
				w.mu.Lock()
				n := w.node(name)
				is, was := seen{n.life, e.Index, e.Account.Consumed()}, last[name+r.Spec.ID]
				if n.agent == a && was.life == is.life && was.execution == is.execution && is.consumed < was.consumed {
					w.fault("%s: the account of %s fell from %v to %v: %+v", name, r.Spec.Name, was.consumed, is.consumed, e.Account)
				}
				if n.agent == a && was.life == is.life && was.execution > is.execution {
					w.fault("%s: %s went from execution %d back to %d", name, r.Spec.Name, was.execution, is.execution)
				}
				last[name+r.Spec.ID] = is
				w.truth(r)
				w.mu.Unlock()
			}
		}
	}
}

// truth compares each entry of an account with what the kernel counted: it is never more. The caller holds mu.
func (w *world) truth(r qos.Record) {
	for i, e := range r.Status.Execution.Account.Entries {
		if c := w.box(r.Spec.ID, r.Status.Execution.Index, i); e.Own > 0 && (c == nil || e.Own > c.kernel) {
			w.fault("the account of %s says %v for %s, the kernel counted less: %+v", r.Spec.Name, e.Own, i, c)
		}
	}
}

// box is the container of an incarnation that used the most; nil: there was none. The caller holds mu.
func (w *world) box(job string, execution int, i qos.Incarnation) (found *simContainer) {
	for _, c := range w.ledger {
		if c.node == i.Node && c.ID == containerID(job, execution, i.N) && (found == nil || c.kernel > found.kernel) {
			found = c
		}
	}
	return found
}

// judge checks all that must hold when the world has been calm for long enough.
func (w *world) judge() {
	agents := w.agents()
	w.mu.Lock()
	jobs := slices.Clone(w.jobs)
	for _, n := range w.nodes {
		if n.up && agents[n.name] == nil {
			w.fault("no agent runs on %s", n.name)
		}
	}
	w.mu.Unlock()
	for _, j := range jobs {
		w.judgeJob(j, agents)
	}
}

// alike waits until all nodes say the same of a job at one instant: of one that runs, something changes every few seconds.
func (w *world) alike(j *simJob, agents map[string]*Agent) (r qos.Record, ok bool) {
	var differ string
	for end := time.Now().Add(tableTime); time.Now().Before(end); {
		differ = ""
		names := sortedNames(agents)
		r, ok = agents[names[0]].cluster.mesh.Get(j.id)
		for _, name := range names[1:] {
			if other, known := agents[name].cluster.mesh.Get(j.id); ok != known || essence(r) != essence(other) {
				differ = fmt.Sprintf("%s and %s differ about %s:\n\t%t %s\n\t%t %s", names[0], name, j.name, ok, essence(r), known, essence(other))
			}
		}
		if differ == "" {
			return r, ok
		}
		pause(context.Background(), 100*time.Millisecond)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault("within %v: %s", tableTime, differ)
	return r, false
}

// tableTime is how long it may take until all tables are the same.
const tableTime = 30 * time.Second

func (w *world) judgeJob(j *simJob, agents map[string]*Agent) {
	r, ok := w.alike(j, agents)
	if !ok {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.fault("not all nodes know %s alike", j.name)
		return
	}
	var own *qos.Status
	var also []string
	for _, name := range sortedNames(agents) {
		held := agents[name].jobs.get(j.id)
		switch {
		case held != nil && name == r.Status.Owner:
			held.mu.Lock()
			st := held.row.clone().Record.Status
			held.mu.Unlock()
			own = &st
		case held != nil:
			also = append(also, name)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if own == nil && r.Status.Phase.Terminal() && len(also) == 0 { // its owner's store was lost since
		own = &r.Status
	}
	if len(also) > 0 || own == nil {
		w.fault("%s is owned by %q, which has it: %t; so have %v", j.name, r.Status.Owner, own != nil, also)
		return
	}
	w.judgeOwner(j, *own)
}

// essence is what all nodes must say alike of a job: all but figures that are not broadcast.
func essence(r qos.Record) string {
	st := r.Status
	if st.Phase.Terminal() {
		st.Sequence = 0 // no version tells of it, and nobody numbers any more
	}
	if st.Execution != nil {
		e := *st.Execution
		e.Account, e.Allocation, e.Clock = qos.Account{Live: e.Account.Live}, 0, qos.Clock{}
		st.Execution = &e
	}
	b, err := json.Marshal(st)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// judgeOwner checks a job against what runs, and its account against what was counted. The caller holds mu.
func (w *world) judgeOwner(j *simJob, st qos.Status) {
	running := w.runningOf(j.id)
	switch {
	case st.Phase.Terminal():
		if len(running) > 0 {
			w.fault("%s is %s, and runs on %s", j.name, st.Phase, running[0].node)
		}
		if w.master.apps[j.name] != nil {
			w.fault("%s is %s, and Marathon still has it", j.name, st.Phase)
		}
		w.reason(j, st)
	case len(running) != 1:
		w.fault("%s is %s (%s), and %d containers of it run", j.name, st.Phase, st.Reason, len(running))
	case running[0].node != st.Owner:
		w.fault("%s runs on %s, its owner is %s", j.name, running[0].node, st.Owner)
	default:
		w.present(j, st, running[0])
	}
	if st.Execution != nil {
		w.bill(j, st)
	}
}

// reason checks that a job's end has a reason that happened. The caller holds mu.
func (w *world) reason(j *simJob, st qos.Status) {
	switch st.Phase {
	case qos.PhaseCancelled:
		if !j.cancelled {
			w.fault("%s is cancelled (%s), and nobody did that", j.name, st.Reason)
		}
	case qos.PhaseCompleted:
		if !slices.ContainsFunc(w.ledger, func(c *simContainer) bool { return c.job == j.id && c.Exit != nil && c.Exit.Code == 0 }) {
			w.fault("%s is completed, and no container of it was", j.name)
		}
	default:
		w.fault("%s is %s: %s", j.name, st.Phase, st.Reason)
	}
}

// behind is how much older than the kernel's counter the agent's last reading may be: checkpoints hold readings up.
const behind = 5 * time.Second

// present compares the progress of what runs with what its process state embodies. The caller holds mu.
func (w *world) present(j *simJob, st qos.Status, c *simContainer) {
	p, is := st.Execution.Account.Progress(), c.embodied()
	if p > is || is-p > time.Duration(float64(behind)*max(1, c.Limits.CPUs)) {
		w.fault("%s: progress is %v, its process embodies %v", j.name, p, is)
	}
}

// lostTail is how much CPU time may be missing of a container that went down with its machine, at one CPU: what was not saved, nor told to
// a replica. What it had while no agent read its counter (soak seed 3246: one that was paused until then) nobody can know, either.
const lostTail = 25 * time.Second

// bill checks that all CPU time of the present execution is in its account, and none twice. The caller holds mu.
func (w *world) bill(j *simJob, st qos.Status) {
	account := st.Execution.Account
	for _, c := range w.ledger {
		if c.job != j.id || !strings.HasPrefix(c.ID, fmt.Sprintf("%s-%d-", j.id, st.Execution.Index)) || c.kernel == 0 {
			continue
		}
		allowed := time.Duration(0)
		if c.died {
			allowed = time.Duration(float64(lostTail+c.unread) * max(1, c.Limits.CPUs))
		}
		if c.State == container.Running {
			allowed = time.Duration(float64(behind) * max(1, c.Limits.CPUs))
		}
		var n int
		_, _ = fmt.Sscanf(c.ID[len(fmt.Sprintf("%s-%d-", j.id, st.Execution.Index)):], "%d", &n) // it is one of ours
		e, ok := account.Entries[qos.Incarnation{N: n, Node: c.node}]
		if c.kernel-e.Own > allowed {
			w.fault("%s: the account has %v of %s on %s (entry: %t), the kernel counted %v", j.name, e.Own, short(c.ID), c.node, ok, c.kernel)
		}
	}
}

// until waits for what must come to be; it says whether it did.
func (w *world) until(within time.Duration, what string, ok func() bool) bool {
	for end := time.Now().Add(within); !ok(); {
		if time.Now().After(end) {
			w.mu.Lock()
			w.fault("within %v it did not come to be: %s", within, what)
			w.mu.Unlock()
			return false
		}
		pause(context.Background(), 100*time.Millisecond)
	}
	return true
}

// together waits until all agents see each other.
func (w *world) together(within time.Duration) bool {
	return w.until(within, "all see each other and are settled", func() bool {
		agents := w.agents()
		for _, a := range agents {
			alive := 0
			for _, m := range a.cluster.mesh.Members() {
				if m.State == gossip.Alive && m.Meta.Peer != "" {
					alive++
				}
			}
			if alive != len(w.nodes) || !a.cluster.mesh.Settled() {
				return false
			}
		}
		return len(agents) == len(w.nodes)
	})
}

// heal ends all faults.
func (w *world) heal() {
	w.cut()
	w.net.Loss(0)
	for _, n := range w.nodes {
		n.resume()
	}
	w.mu.Lock()
	w.trouble = 0
	for _, n := range w.nodes {
		n.up = true
	}
	w.say("healed")
	w.mu.Unlock()
	for _, n := range w.nodes {
		n.boot()
	}
}

// down takes a machine's power away.
func (n *simNode) down() {
	n.kill()
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if !n.up {
		return
	}
	n.up = false
	blind := time.Since(n.blind)
	n.w.say("%s: machine down", n.name)
	for _, c := range n.containers {
		if c.State == container.Running {
			n.end(c, 255, "its machine went down")
			c.Exit.Unknown, c.Exit.CPU, c.died, c.unread = true, 0, true, blind
		}
	}
	for _, a := range n.w.master.apps {
		if a.task != nil && a.task.node == n {
			a.task.stop()
		}
	}
	for _, t := range n.w.master.past {
		if t.node == n {
			t.stop()
		}
	}
	if n.paused != nil {
		close(n.paused)
		n.paused = nil
	}
}

// reboot brings it back.
func (n *simNode) reboot() {
	n.w.mu.Lock()
	if !n.up {
		n.w.say("%s: machine up", n.name)
	}
	n.up = true
	n.w.part()
	n.w.mu.Unlock()
	n.boot()
}
