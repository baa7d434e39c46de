package agent

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"qosctl/agent/api"
	"qosctl/gossip"
	"qosctl/qos"
)

// A node that is to be emptied is marked so in the table; its own agent then moves its jobs away, those first whose margin is the
// smallest, one at a time, as a checkpoint has the disk for itself.

// postDrain begins or ends the emptying of a node.
func (a *Agent) postDrain(w http.ResponseWriter, r *http.Request) {
	var d api.Drain
	var m gossip.Member
	err := readBody(w, r, &d)
	if err == nil {
		err = boundReason(d.Reason)
	}
	switch {
	case err != nil:
	case a.cluster == nil:
		err = refuse(codeConflict, "this agent is alone: its jobs have nowhere to go")
	default:
		var ok bool
		if m, ok = a.cluster.member(d.Node); !ok {
			err = refuse(codeNotFound, "no node %q", d.Node).hint("qosctl nodes lists them")
		}
	}
	how := ""
	if err == nil {
		how = a.drainInMesos(r.Context(), orElse(m.Meta.Hostname, d.Node), d.On)
		value := ""
		if d.On {
			value = orElse(strings.TrimSpace(d.Reason), "by hand")
		}
		err = a.mark(drainKey+d.Node, value)
	}
	if err != nil {
		answerError(w, err)
		return
	}
	a.stir()
	answer(w, http.StatusOK, api.DrainResponse{How: how, Jobs: a.ownedBy(d.Node)})
}

// ownedBy counts the jobs that have not ended and that a node has.
func (a *Agent) ownedBy(node string) int {
	n := 0
	for _, r := range a.cluster.mesh.All() {
		if r.Status.Owner == node && !r.Status.Phase.Terminal() && r.Status.Phase == qos.PhaseRunning {
			n++
		}
	}
	return n
}

// drainEvery is how long after a move that was refused the next is tried.
const drainEvery = 10 * time.Second

// drain moves the next job away, if this node is to be emptied.
func (a *Agent) drain(_ context.Context, now time.Time) {
	if !a.draining() || a.heldHere() != "" {
		return
	}
	type leaving struct {
		job    *job
		margin float64
	}
	var list []leaving
	for _, j := range a.jobs.all() {
		j.mu.Lock()
		ended := j.status().Phase.Terminal()
		moving, movable := j.row.Local.Move != nil && !ended, j.openTask() != nil && !j.steward().Adopted && !ended && now.After(j.noMove)
		margin := marginOf(j, now)
		j.mu.Unlock()
		if moving {
			return // one at a time
		}
		if movable {
			list = append(list, leaving{j, margin})
		}
	}
	slices.SortFunc(list, func(x, y leaving) int { return cmp.Compare(x.margin, y.margin) })
	for _, l := range list {
		to, _, err := a.migrate(l.job, "", "node "+a.node+" is being drained")
		if err == nil {
			a.log.Info("drain", "job", l.job.spec().Name, "to", to.Name)
			return
		}
		a.stuck(l.job, now, err)
	}
}

// stuck notes once in a row why a job can't leave.
func (a *Agent) stuck(j *job, now time.Time, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.noMove = now.Add(drainEvery)
	text := "the node is being drained, but: " + err.Error()
	for _, e := range slices.Backward(j.row.Local.Events) {
		if e.Kind != "move" {
			continue
		}
		if e.Text == text {
			return
		}
		break
	}
	j.note(now, "move", "%s", text)
	j.touch()
	a.log.Warn("drain", "job", j.spec().Name, "err", err)
}

// marginOf is the time in seconds that a job has left above what it needs at one CPU. The caller holds j.mu.
func marginOf(j *job, now time.Time) float64 {
	e := j.status().Execution
	if e == nil {
		return 0
	}
	return e.Deadline.Sub(now).Seconds() - (j.spec().QoS.Duration - e.Account.Progress().Seconds())
}

// getDrain tells what is left on a node: as that node says, else as the table has it.
func (a *Agent) getDrain(w http.ResponseWriter, r *http.Request) {
	node := r.PathValue("node")
	if node != a.node && a.cluster != nil && r.Header.Get(forwardedHeader) == "" {
		m, ok := a.cluster.member(node)
		if ok && a.stateOf(node, time.Now()) == nodeAlive && m.Meta.Peer != "" {
			a.pass(w, r, m, "/v1/drain/"+url.PathEscape(node), nil)
			return
		}
		if ok {
			answer(w, http.StatusOK, a.leftAway(node))
			return
		}
	}
	if node != a.node {
		answerError(w, refuse(codeNotFound, "no node %q", node).hint("qosctl nodes lists them"))
		return
	}
	answer(w, http.StatusOK, a.leftHere())
}

// leftAway is what the table has of a node that does not answer.
func (a *Agent) leftAway(node string) api.DrainStatus {
	s := api.DrainStatus{Node: node, Draining: a.marks()[drainKey+node], Left: []api.Leaving{}}
	for _, r := range a.cluster.mesh.All() {
		if r.Status.Owner == node && stillThere(r.Status) {
			s.Left = append(s.Left, api.Leaving{ID: r.Spec.ID, Name: r.Spec.Name, Phase: r.Status.Phase, Text: "node " + node + " does not answer"})
		}
	}
	return s
}

// leftHere is what has not left this node yet.
func (a *Agent) leftHere() api.DrainStatus {
	s := api.DrainStatus{Node: a.node, Draining: a.marks()[drainKey+a.node], Left: []api.Leaving{}}
	for _, j := range a.jobs.all() {
		j.mu.Lock()
		st := j.status()
		if st.Owner == a.node && (stillThere(*st) || j.openTask() != nil && !st.Phase.Terminal()) {
			s.Left = append(s.Left, a.leaving(j))
		}
		j.mu.Unlock()
	}
	return s
}

// leaving describes a job that has not left. The caller holds j.mu.
func (a *Agent) leaving(j *job) api.Leaving {
	l := api.Leaving{ID: j.spec().ID, Name: j.spec().Name, Phase: j.status().Phase}
	switch m := j.row.Local.Move; {
	case m != nil:
		l.To = m.Node
	case j.steward().Adopted:
		l.Stays, l.Text = true, "Mesos holds its container: it is resized in place only"
	case j.openTask() == nil && j.status().Phase == qos.PhaseSuspended:
		l.Text = "its process state is here; it leaves with its next task"
	default:
		for _, e := range slices.Backward(j.row.Local.Events) {
			if e.Kind == "move" {
				l.Text = e.Text
				break
			}
		}
	}
	return l
}

// stillThere says whether a job of a node runs there, or has its process state there.
func stillThere(st qos.Status) bool {
	return st.Phase == qos.PhaseRunning || st.Phase == qos.PhaseSuspended
}
