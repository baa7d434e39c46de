package agent

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"qosctl/agent/peer"
	"qosctl/agent/thesis"
	"qosctl/container"
	"qosctl/framework/mesos"
	"qosctl/gossip"
	"qosctl/qos"
)

// What jobs of the launcher tell. A word that comes is a reason to look at once; what a run was is seen in Mesos:
//
// /updateTask comes from within an iteration's task, just before that ends. Whether it ended well is the task's state. Of an iteration that ran
// where no agent of ours looks, Chronos' count of successes must agree.
//
// /initMarathonApp and /endMarathonApp bound an execution, which may have several tasks: shell_trap takes a checkpoint when it is told
// to stop, tells nothing, and restores it in the next task.

// The words of the thesis' protocol.
const (
	wordUpdate = "update"
	wordBegin  = "begin"
	wordEnd    = "end"
)

// word is what was told of a job. It is also what agents pass on to the one that has the job.
type word struct {
	Kind     string    `json:"kind"`
	Started  time.Time `json:"started,omitzero"`  // begin, update
	Finished time.Time `json:"finished,omitzero"` // end, update
	Host     string    `json:"host,omitempty"`    // update
}

// plausible moves an iteration that was told to where it can have been: it had ended when it was told, and had not before the job was there, whatever
// the host's clock, or somebody who is not the job, says. How long it took is left as it is, as far as that can be.
func (w word) plausible(since, now time.Time) word {
	if took := w.Finished.Sub(w.Started); w.Finished.After(now) || w.Finished.Before(since) {
		w.Finished, w.Started = now, now.Add(-max(0, took))
	}
	if w.Started.Before(since) {
		w.Started = since
	}
	return w
}

// heard is what is known of a job by the protocol alone.
type heard struct {
	Begun  time.Time `json:"begun,omitzero"`   // Marathon: when it came to our ears that an execution had begun anew
	Ended  time.Time `json:"ended,omitzero"`   // and that the present one had ended
	Broken bool      `json:"broken,omitempty"` // its task has ended, the execution has not: it goes on in the next task, unless one begins anew
	Update word      `json:"update,omitzero"`  // Chronos: an iteration that is not booked
	At     time.Time `json:"at,omitzero"`      // when that came
}

// since forgets what was told of a run that ended at a time.
func (t heard) since(end time.Time) heard {
	if !t.Begun.After(end) {
		t.Begun = time.Time{}
	}
	t.Ended, t.Broken = time.Time{}, false
	return t
}

func (a *Agent) updateTask(ctx context.Context, body []byte) error {
	u, err := thesis.ParseUpdate(body)
	if err != nil {
		return refuse(codeInvalid, "%s", err)
	}
	return a.tellJob(ctx, u.ID, word{Kind: wordUpdate, Started: u.Started, Finished: u.Finished, Host: u.Host})
}

func (a *Agent) initMarathonApp(ctx context.Context, body []byte) error {
	m, err := thesis.ParseBegin(body)
	if err != nil {
		return refuse(codeInvalid, "%s", err)
	}
	return a.tellJob(ctx, m.ID, word{Kind: wordBegin, Started: m.At})
}

func (a *Agent) endMarathonApp(ctx context.Context, body []byte) error {
	m, err := thesis.ParseEnd(body)
	if err != nil {
		return refuse(codeInvalid, "%s", err)
	}
	return a.tellJob(ctx, m.ID, word{Kind: wordEnd, Finished: m.At})
}

// tellJob brings a word to the node that has the job.
func (a *Agent) tellJob(ctx context.Context, id string, w word) error {
	if j := a.jobs.get(id); j != nil {
		return a.hear(j, w)
	}
	if r, ok := a.elsewhere(id); ok && r.Status.Steward.Launched {
		m, there := a.cluster.member(r.Status.Owner)
		if !there || m.State != gossip.Alive {
			return refuse(codeConflict, "node %s, which has the job, is away", r.Status.Owner)
		}
		if err := a.askPeer(ctx, m, http.MethodPost, "/peer/v1/jobs/"+url.PathEscape(id)+"/told", w, nil); err != nil {
			return refuse(codeFramework, "node %s, which has the job: %s", m.Name, err)
		}
		return nil
	}
	return refuse(codeNotFound, "no job of the launcher has the uuid %s", id)
}

// postTold takes a word that came to another node.
func (a *Agent) postTold(w http.ResponseWriter, r *http.Request) {
	var said word
	err := peer.Read(r, &said)
	j := a.jobs.get(r.PathValue("job"))
	if err == nil && j == nil {
		err = refuse(codeNotFound, "this node does not have the job")
	}
	if err == nil {
		err = a.hear(j, said)
	}
	if err != nil {
		failPeer(w, err)
		return
	}
	peer.Answer(w, http.StatusOK, struct{}{})
}

// hear takes a word about a job of this node.
func (a *Agent) hear(j *job, w word) error {
	now := time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	st, t := j.status(), &j.row.Local.Heard
	if !j.steward().Launched || j.gone {
		return refuse(codeNotFound, "no job of the launcher has the uuid %s", j.spec().ID)
	}
	if (w.Kind == wordUpdate) != (j.spec().Framework == qos.Chronos) {
		return refuse(codeInvalid, "%s is a job of %s, which does not say that", j.spec().Name, j.spec().Framework)
	}
	if st.Phase.Terminal() {
		return nil // its last task may say so as late as it likes
	}
	switch w.Kind {
	case wordUpdate:
		w = w.plausible(j.spec().Submitted, now)
		j.note(now, "told", "an iteration on %s has ended, after %.0f s", orElse(w.Host, "an unnamed host"), w.Finished.Sub(w.Started).Seconds())
		t.Update, t.At = w, now
	case wordBegin:
		j.note(now, "told", "an execution has begun, at %s", w.Started.Format(time.TimeOnly))
		t.Begun = now
	case wordEnd:
		j.note(now, "told", "the execution has ended, at %s", w.Finished.Format(time.TimeOnly))
		t.Ended = now
	default:
		return refuse(codeInvalid, "what is %q?", w.Kind)
	}
	err := a.save(j)
	a.mesosSoon()
	a.lookSoon()
	return err
}

// holding notes by which names a task of a launcher's Marathon job holds a container in Docker: shell_trap names it by the job's UUID.
// The caller holds j.mu.
func (m *mesosNode) holding(t mesos.Task, j *job) {
	if !j.steward().Launched || j.spec().Framework != qos.Marathon {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next := map[string][]string{t.ID: {thesis.Plain(j.spec().ID), j.spec().ID}}
	for _, known := range m.tasks {
		if names := m.holds[known.ID]; names != nil {
			next[known.ID] = names
		}
	}
	m.holds = next
}

// restoreTime is how long a task that follows a broken execution may take to say that it begins anew.
const restoreTime = 3 * time.Second

// waitsForWord says whether it is too early to tell if a task goes on with an execution or begins another. The caller holds j.mu.
func (j *job) waitsForWord(t mesos.Task, now time.Time) bool {
	said := j.row.Local.Heard
	return said.Broken && said.Begun.IsZero() && now.Sub(startOf(t)) < restoreTime
}

// breakOff notes that an execution's task has ended, and the execution has not. The caller holds j.mu.
func (a *Agent) breakOff(j *job, exit container.Exit, halted string, now time.Time) bool {
	st, t := j.status(), &j.row.Local.Heard
	good := exit.Code == 0 && !exit.Unknown
	if !j.steward().Launched || j.spec().Framework != qos.Marathon || st.Intent != qos.IntentNone || halted != "" || good || !t.Ended.IsZero() || t.Broken {
		return false
	}
	if err := j.enter(qos.PhasePending, now, "its task ended, its execution not: it is to go on in the next task"); err != nil {
		a.log.Error("phase", "job", j.spec().Name, "err", err)
		return false
	}
	*t = t.since(now)
	t.Broken = true
	if task := j.task(st.Execution.Task); task != nil {
		code := exit.Code
		task.Exit, task.Cause = &code, st.Reason
	}
	j.live = nil
	if err := a.save(j); err != nil {
		a.log.Error("the end of a task is not on disk yet", "job", j.spec().Name, "err", err)
	}
	a.stewardSoon()
	a.decideSoon()
	return true
}

// goOnLaunched goes on with a broken execution in its next task, or books it as lost if another one has begun. The caller holds j.mu.
func (a *Agent) goOnLaunched(j *job, t mesos.Task, started time.Time) (goesOn bool, err error) {
	st, begun := j.status(), j.row.Local.Heard.Begun
	full := st.Execution != nil && st.Execution.Account.Full()
	if !begun.IsZero() || st.Execution == nil || full {
		why := "the launcher's shell_trap could not go on with it"
		if full {
			why = whyFull(st.Execution)
		}
		if err := j.enter(qos.PhaseRunning, started, "its next task has begun anew"); err != nil {
			return false, err
		}
		a.conclude(j, container.Exit{Code: container.CodeUnknown, Unknown: true, Finished: time.Now()}, why)
		j.row.Local.Heard.Begun = begun
		return false, nil
	}
	if err := j.enter(qos.PhaseRunning, time.Now(), fmt.Sprintf("Mesos task %s goes on with execution %d", t.ID, st.Execution.Index)); err != nil {
		return false, err
	}
	st.Epoch, st.Seq, st.Owner = st.Epoch+1, 0, a.node
	e := st.Execution
	e.Task, e.Allocation = t.ID, j.known()
	e.Account.StartIncarnation(qos.Entry{Node: a.node, Container: t.ContainerID, StatContainer: t.ContainerID, Base: e.Account.Progress()})
	e.Clock.Resume(started.Sub(e.Started).Seconds())
	j.row.Local.Heard.Broken = false
	j.addTask(task{ID: t.ID, First: e.Index, Part: e.Account.Live.N, At: started})
	return true, a.save(j)
}

// countTold books an iteration that was told, and that Mesos has not shown: it ran where no agent of ours looks. Chronos must have counted one
// success more than are booked. It says whether such a word still waits for Mesos to show the iteration. The caller holds j.mu.
func (a *Agent) countTold(j *job, s sight, now time.Time) (waits bool) {
	st, t := j.status(), &j.row.Local.Heard
	u := t.Update
	switch {
	case u.Kind == "" || !j.steward().Launched:
		return false
	case st.Phase == qos.PhaseRunning || j.live != nil || j.busy: // its end is Mesos' to tell
		return true
	case booked(st, u):
		t.Update = word{}
		return false
	case now.Sub(t.At) < 2*a.cfg.Mesos.Poll || s.Active:
		return true
	}
	t.Update = word{}
	if s.Succeeded <= int64(st.Tally.Succeeded) {
		j.note(now, "told", "neither Mesos nor Chronos has seen that iteration end well: it does not count")
		return false
	}
	a.bookUnseen(j, u)
	return false
}

// booked says whether a run that is booked is the told one. The host's clock may be off by a little, and told are whole seconds.
func booked(st *qos.Status, u word) bool {
	const slack = 2 * time.Second
	for _, r := range st.Runs {
		if u.Started.Before(r.Ended.Add(slack)) && u.Finished.After(r.Started.Add(-slack)) && u.Finished.Before(r.Ended.Add(slack)) {
			return true
		}
	}
	return false
}

// bookUnseen books an iteration that no agent has seen: its CPU time is not known. The caller holds j.mu.
func (a *Agent) bookUnseen(j *job, u word) {
	st, spec := j.status(), j.spec()
	host := orElse(u.Host, "an unnamed host")
	if err := j.enter(qos.PhaseRunning, u.Started, "an iteration ran on "+host); err != nil {
		a.log.Error("phase", "job", spec.Name, "err", err)
		return
	}
	st.Epoch, st.Seq, st.Owner = st.Epoch+1, 0, a.node
	st.Execution = &qos.Execution{Index: nextIndex(st), Started: u.Started, Deadline: spec.QoS.Deadline.From(st.Started), Allocation: j.known()}
	st.Execution.Account.StartIncarnation(qos.Entry{Node: strings.ReplaceAll(host, "@", "_")})
	st.Execution.Clock.Max = j.known()
	j.note(time.Now(), "told", "it ran on %s, where no agent looks: it counts, its CPU time is not known", host)
	a.conclude(j, container.Exit{Finished: u.Finished}, "")
}
