package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"qosctl/agent/api"
	"qosctl/gossip"
	"qosctl/qos"
)

// A job is moved by its framework: that is told which hosts may have it, ends the task here, and starts another one there, which claims
// the job. What this node does is to choose where, and to take it back if no task comes.

// relocator is a port of a framework that can be told which hosts may have a job.
type relocator interface {
	// Relocate has a job run on one of these hosts (none: any), which replace those it was told before. The framework ends its task and
	// starts another. It returns what Undo wants.
	Relocate(ctx context.Context, r relocation) (deployment string, err error)
	// Undo takes a change back whose deployment is not done.
	Undo(ctx context.Context, deployment string) error
}

// relocation is what a framework is told of a job's place.
type relocation struct {
	Name   string
	Hosts  []string // Mesos' names
	Before []string // that it was told last
	// Perhaps are others that it may have been told since: its answers were lost.
	Perhaps [][]string
	Force   bool // over whatever deployment holds the job; only while it is safely suspended
}

// postMigrate moves a job of this node.
func (a *Agent) postMigrate(w http.ResponseWriter, r *http.Request, j *job) {
	var body api.Migrate
	err := readBody(w, r, &body)
	if err == nil {
		err = boundReason(body.Reason)
	}
	var to gossip.Member
	var how string
	if err == nil {
		to, how, err = a.migrate(j, body.To, orElse(body.Reason, "asked for"))
	}
	if err != nil {
		answerError(w, err)
		return
	}
	answer(w, http.StatusAccepted, api.MigrateResponse{Job: a.show(j, false), To: to.Name, How: how})
}

// migrate begins to move a job to a node; "": the one with the most room.
func (a *Agent) migrate(j *job, node, why string) (to gossip.Member, how string, err error) {
	if a.cluster == nil {
		return to, "", refuse(codeConflict, "this agent is alone: there is no other node").hint("cluster.key_file in the configuration makes it one of several")
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := a.movable(j); err != nil {
		return to, "", err
	}
	if to, err = a.choose(j, node); err != nil {
		return to, "", err
	}
	t := j.openTask()
	j.row.Local.Move = &move{State: moveAsked, From: j.request(), To: j.request(), Task: t.ID, At: time.Now().Round(0), Node: to.Name, Hosts: []string{to.Meta.Hostname}}
	j.note(time.Now(), "move", "to node %s: %s", to.Name, why)
	if err := a.save(j); err != nil {
		j.row.Local.Move = nil
		return to, "", err
	}
	a.stewardSoon()
	how = fmt.Sprintf("%s is told to run it on host %s alone; its state is saved here and restored there", j.spec().Framework, to.Meta.Hostname)
	if !a.keeps(j) {
		how = fmt.Sprintf("%s is told to run it on host %s alone, between two runs, so nothing is lost", j.spec().Framework, to.Meta.Hostname)
	}
	return to, how, nil
}

// movable says why a job can't be moved now; nil: it can. The caller holds j.mu.
func (a *Agent) movable(j *job) error {
	name, st := j.spec().Name, j.status()
	_, can := a.ports[j.spec().Framework].(relocator)
	switch {
	case !can:
		return refuse(codeConflict, "%s can't be told where to run %s", j.spec().Framework, name)
	case j.steward().Adopted:
		return refuse(codeConflict, "Mesos holds the container of %s: it is resized in place only", name)
	case a.heldJob(j.row.Record) != "":
		return refuse(codeConflict, "%s", a.heldJob(j.row.Record)).hint("qosctl resume lets it go on")
	case st.Phase.Terminal() || st.Intent != qos.IntentNone:
		return refuse(codeConflict, "%s is %s", name, st.Phase)
	case j.row.Local.Move != nil:
		return refuse(codeConflict, "%s is being moved or resized through %s already", name, j.spec().Framework)
	case j.openTask() == nil:
		return refuse(codeConflict, "%s has no task now: it has nowhere to be moved from", name)
	case j.live != nil && !a.keeps(j) && !warm(j):
		return a.whyNotKept(j)
	}
	return nil
}

// choose picks the node that a job is to go to. The caller holds j.mu.
func (a *Agent) choose(j *job, node string) (gossip.Member, error) {
	var fit []gossip.Member
	why := map[string]string{}
	for _, m := range a.alive() {
		if w := a.unfit(j, m); w != "" {
			why[m.Name] = w
			continue
		}
		fit = append(fit, m)
	}
	if node != "" {
		i := slices.IndexFunc(fit, func(m gossip.Member) bool { return m.Name == node || m.Meta.Hostname == node })
		switch {
		case i >= 0:
			return fit[i], nil
		case node == a.node:
			return gossip.Member{}, refuse(codeConflict, "%s is on node %s already", j.spec().Name, node)
		case why[node] != "":
			return gossip.Member{}, refuse(codeConflict, "node %s can't have it: %s", node, why[node])
		}
		return gossip.Member{}, refuse(codeNotFound, "no node %q answers", node).hint("qosctl nodes lists them")
	}
	if len(fit) == 0 {
		return gossip.Member{}, refuse(codeConflict, "no other node can have %s: %s", j.spec().Name, reasons(why)).hint("qosctl nodes shows what they have")
	}
	rooms := make([]qos.Room, len(fit))
	for i, m := range fit {
		rooms[i] = peerRoom(m)
	}
	p, _ := qos.Place(qos.Wish{Job: j.spec().ID, Need: j.need, Request: j.request(), Min: j.request()}, rooms) // all of them can be offered it
	return fit[slices.IndexFunc(rooms, func(r qos.Room) bool { return r.Node == p.Node })], nil
}

// unfit says why a node can't have a job; "": it can. The caller holds j.mu.
func (a *Agent) unfit(j *job, m gossip.Member) string {
	switch marks := a.marks(); {
	case m.Meta.Hostname == "":
		return "its name in Mesos is not known"
	case m.Meta.Draining || marks[drainKey+m.Name] != "":
		return "it is being drained"
	case m.Meta.Held || marks[holdNode+m.Name] != "":
		return "it is on hold"
	case peerRoom(m).Offer()+1e-9 < j.request():
		return fmt.Sprintf("it has room for %.2f CPUs, not for %.2f", max(peerRoom(m).Offer(), 0), j.request())
	case !a.keeps(j):
		return ""
	case !m.Meta.Checkpoints:
		return "it can't restore checkpoints"
	case m.Meta.Class != a.engines.keeper.Report().Class.Digest():
		return "it is of another restore class (CPU, kernel, CRIU, runc or driver)"
	}
	return ""
}

func reasons(why map[string]string) string {
	var list []string
	for node, w := range why {
		list = append(list, node+": "+w)
	}
	if len(list) == 0 {
		return "there is none"
	}
	slices.Sort(list)
	return fmt.Sprint(list)
}

// lookAtRelocation draws the conclusions from what has become of a move to another node, and says whether its next step is to be done
// now. The caller holds j.mu.
func (a *Agent) lookAtRelocation(j *job, m *move, now time.Time) (ready bool) {
	t := j.openTask()
	switch {
	case m.State == moveAsked && (t == nil || t.ID != m.Task):
		a.endMove(j, "its task has ended meanwhile")
	case m.State == moveAsked && a.heldJob(j.row.Record) != "", m.State == moveAsked && a.waitsForBoundary(j):
		return false
	case m.State == moveAsked:
		to, err := a.choose(j, m.Node)
		if err != nil {
			a.endMove(j, "given up: %s", err)
			j.noMove = now.Add(drainEvery)
			a.goOn(j)
			return false
		}
		m.Hosts = []string{to.Meta.Hostname}
	case m.State == moveSent && t != nil && t.ID != m.Task:
		a.endMove(j, "done: task %s is on node %s", t.ID, a.node)
	case m.State == moveSent && t != nil && j.spec().Framework == qos.Chronos:
		a.leave(j, t, m) // Chronos ends no task by itself
	case m.State == moveSent && t == nil && m.Ended.IsZero():
		m.Ended = now.Round(0)
	case m.State == moveSent && now.Sub(later(m.At, m.Ended)) > a.cfg.Control.MoveTimeout:
		m.State = moveUndo
		j.note(now, "move", "no task was started on node %s within %s: taken back", m.Node, a.cfg.Control.MoveTimeout)
		a.log.Warn("a move brought no task in time; it is taken back", "job", j.spec().Name, "node", m.Node)
	}
	return true
}

// sendRelocation tells the framework where a job is to run.
func (a *Agent) sendRelocation(ctx context.Context, j *job, p relocator, m move) (string, error) {
	j.mu.Lock()
	before := slices.Clone(j.steward().Hosts)
	j.steward().Hosts = m.Hosts
	err := a.save(j) // what it was told is known before it is
	j.mu.Unlock()
	if err != nil {
		return "", err
	}
	return p.Relocate(ctx, relocation{Name: j.spec().Name, Hosts: m.Hosts, Before: before})
}

// undoRelocation lets a job run anywhere again.
func (a *Agent) undoRelocation(ctx context.Context, j *job, p relocator, m move) error {
	err := errors.New("no deployment is known")
	if m.Deployment != "" {
		err = p.Undo(ctx, m.Deployment)
	}
	if err != nil { // the deployment is gone, or never was. The job is safely suspended
		_, err = p.Relocate(ctx, relocation{Name: j.spec().Name, Before: m.Hosts, Force: true})
	}
	if err != nil {
		return fmt.Errorf("take a move back: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.steward().Hosts = nil
	j.noMove = time.Now().Add(a.cfg.Control.MoveTimeout)
	a.metrics.movesUndone.Inc()
	a.endMove(j, "taken back: it may run anywhere")
	return nil
}

// unbind lets a job run anywhere again that was bound to a host: at its next natural restart, when the host is gone, or when it can't restore
// the job.
func (a *Agent) unbind(ctx context.Context, j *job) error {
	p, ok := a.ports[j.spec().Framework].(relocator)
	j.mu.Lock()
	st, hosts := j.status(), slices.Clone(j.steward().Hosts)
	bound := a.cfg.Control.Placement == placeByHints && j.spec().Framework == qos.Chronos // anew, before its next launch
	natural := !bound && (st.Phase == qos.PhaseEnded || st.Phase == qos.PhaseLost) && !slices.Contains(hosts, orElse(a.mesosHost(), a.node))
	now := ok && len(hosts) > 0 && j.row.Local.Move == nil && j.openTask() == nil && j.idle() && (natural || j.passedOn())
	j.mu.Unlock()
	if !now {
		return nil
	}
	if _, err := p.Relocate(ctx, relocation{Name: j.spec().Name, Before: hosts}); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.steward().Hosts = nil
	j.note(time.Now(), "move", "it may run anywhere again")
	return a.save(j)
}
