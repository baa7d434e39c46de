package agent

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"qosctl/agent/api"
	"qosctl/qos"
)

// snapshot is what the loop publishes once a second; /metrics reads it and nobody reads the kernel twice.
type snapshot struct {
	At        time.Time
	Jobs      []api.Job // not ended
	Allocated float64
	Headroom  float64

	shown           []shown // for /metrics: Jobs, and those that have ended just now
	running, hidden int
	sold            float64
	held, draining  bool
}

func (a *Agent) publish(now time.Time) {
	marks := a.marks()
	s := &snapshot{At: now, Headroom: a.cpus - a.cfg.Control.Reserve, sold: a.sold(), held: a.heldHere() != "", draining: a.draining()}
	all := a.jobs.all()
	s.Jobs, s.shown = make([]api.Job, 0, len(all)), make([]shown, 0, len(all)) // never grown: what is shown points into Jobs
	var past []shown
	for _, j := range all {
		j.mu.Lock()
		if j.status().Phase.Terminal() {
			if now.Sub(j.status().Ended) < keptShown {
				v := a.describeUnder(marks, j)
				past = append(past, shown{&v, j.figuresOf()})
			}
			j.mu.Unlock()
			continue
		}
		s.Jobs = append(s.Jobs, a.describeUnder(marks, j))
		v, f := &s.Jobs[len(s.Jobs)-1], j.figuresOf()
		j.mu.Unlock()
		s.shown = append(s.shown, shown{v, f})
		if f.running {
			s.running++
			s.Allocated += v.Allocation
			s.Headroom -= max(v.Request, v.Allocation)
		}
	}
	s.Headroom -= s.sold
	s.show(past)
	a.snapshot.Store(s)
}

// Stalled is how long ago the loop should have turned and has not: an agent that still answers and no longer looks after its jobs is no agent.
func (a *Agent) Stalled() time.Duration {
	s := a.snapshot.Load()
	if s == nil { // not running yet
		return 0
	}
	return max(0, time.Since(s.At)-a.cfg.Control.Sample)
}

// show adds those that have ended, and leaves out what a page has no room for: what runs stays longest.
func (s *snapshot) show(past []shown) {
	s.shown = append(s.shown, past...)
	if s.hidden = max(0, len(s.shown)-mostShown); s.hidden > 0 {
		slices.SortStableFunc(s.shown, func(x, y shown) int { return cmp.Compare(truth(y.running), truth(x.running)) })
		s.shown = s.shown[:mostShown]
	}
}

// show is the API's view of a job; whole has what only one job's page has.
func (a *Agent) show(j *job, whole bool) api.Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	v := a.describe(j)
	if !whole {
		return v
	}
	st := j.status()
	v.Runs = slices.Clone(st.Runs)
	if e := st.Execution; e != nil {
		c := e.Account.Clone()
		v.Account = &c
		v.Container = c.Entries[c.Live].Container
	}
	return v
}

// describe fills in what every view has. The caller holds j.mu.
func (a *Agent) describe(j *job) api.Job { return a.describeUnder(a.marks(), j) }

// describeUnder is describe for who knows what is on hold: to look that up for each of a thousand jobs is not for nothing.
func (a *Agent) describeUnder(marks map[string]string, j *job) api.Job {
	spec, st := j.spec(), j.status()
	v := api.Job{
		ID: spec.ID, Name: spec.Name, Framework: spec.Framework, Tenant: spec.Tenant,
		Phase: st.Phase, Reason: st.Reason, Owner: st.Owner, Epoch: st.Epoch, Policy: a.policyOf(j).Name(), QoS: spec.QoS,
		Submitted: spec.Submitted, Started: st.Started, Ended: st.Ended, Outcome: outcomeOf(st),
		Request: j.request(), Iterations: spec.Iterations, Tally: st.Tally, Revision: j.rev,
	}
	v.Held = heldBy(marks, j.row.Record)
	if m := j.row.Local.Move; m != nil {
		v.Moving = m.Node
	}
	if a.cluster != nil && st.Owner != a.node && a.stateOf(st.Owner, time.Now()) != nodeAlive {
		v.Away = st.Owner
	}
	if !st.Started.IsZero() {
		v.Deadline = spec.QoS.Deadline.From(st.Started)
	}
	if e := st.Execution; e != nil {
		v.Deadline, v.Index, v.Allocation = e.Deadline, e.Index, e.Allocation
		v.Progress, v.Consumed, v.Borrowed = e.Account.Progress().Seconds(), e.Account.Consumed().Seconds(), e.Account.Borrowed().Seconds()
	}
	if j.live == nil {
		v.Allocation = 0
		return v
	}
	v.Usage, v.Throttled = j.live.rate, j.pulse.throttled
	if n := len(j.decisions); n > 0 {
		d := j.decisions[n-1]
		v.State, v.ThesisState, v.Late = d.State, d.ThesisState, d.Late
		v.Ratio, v.Desired, v.Prediction, v.Need = d.Ratio, d.Desired, d.Prediction, d.Need
	}
	return v
}

// outcomeOf is how a job that has ended did; "" before, and for one that was cancelled.
func outcomeOf(st *qos.Status) qos.Outcome {
	switch {
	case st.Phase == qos.PhaseFailed:
		return qos.Failed
	case st.Phase != qos.PhaseCompleted:
		return ""
	case st.Tally.Missed > 0:
		return qos.Missed
	}
	return qos.Met
}

// explain is the API's account of why a job is treated as it is.
func (a *Agent) explain(j *job) api.Explanation {
	v := a.show(j, true)
	j.mu.Lock()
	defer j.mu.Unlock()
	x := api.Explanation{Job: v, Decisions: slices.Clone(j.decisions), Events: []api.Event{}}
	for _, e := range j.row.Local.Events {
		x.Events = append(x.Events, api.Event(e))
	}
	if v, ok := qos.Judge(*j.spec(), *j.status()); ok {
		x.Judgement = &v
	}
	if n := len(j.decisions); n > 0 && j.live != nil {
		x.NextLook = j.decisions[n-1].At.Add(a.cfg.Control.Period)
	}
	return x
}

// describeNode is the API's view of this node.
func (a *Agent) describeNode() api.Node {
	s := a.snapshot.Load()
	n := api.Node{
		Name: a.node, Version: a.version, Started: a.started, Mode: a.cfg.Control.Mode, Policy: a.cfg.Control.Policy, CPUs: a.cpus,
		Reserve: a.cfg.Control.Reserve, Engine: strings.Join(a.engines.names(), ", "), Cgroup: string(a.engines.cgroups.Mode()), Frameworks: map[string]string{},
	}
	if s != nil {
		n.Allocated, n.Headroom, n.Jobs = s.Allocated, s.Headroom, len(s.Jobs)
	}
	return n
}
