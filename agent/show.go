package agent

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"qosctl/agent/api"
	"qosctl/qos"
)

// snapshot is what the loop publishes of the node once a second.
type snapshot struct {
	At                     time.Time
	Allocated, Headroom    float64
	Jobs, running, granted int // that have not ended; of them those that have a container here, and those that are given CPUs
	hidden                 int // jobs that /metrics has no room for
	sold                   float64
	held, draining         bool
}

// publish sums the node up. Of a job nothing is kept here: what /metrics shows of it is taken from it at the scrape.
func (a *Agent) publish(now time.Time) {
	s := &snapshot{At: now, Headroom: a.cpus - a.cfg.Control.Reserve, sold: a.sold(), held: a.heldHere() != "", draining: a.draining()}
	onPage := 0
	for _, j := range a.jobs.all() {
		j.mu.Lock()
		st, request, given := j.status(), j.request(), 0.0
		over := st.Phase.Terminal()
		live, shown := j.live != nil && !over, !over || now.Sub(st.Ended) < keptShown
		if e := st.Execution; e != nil && live {
			given = e.Allocation
		}
		j.mu.Unlock()
		if shown {
			onPage++
		}
		if !over {
			s.Jobs++
		}
		if given > 0 {
			s.granted++
		}
		if live {
			s.running++
			s.Allocated += given
			s.Headroom -= max(request, given)
		}
	}
	s.Headroom -= s.sold
	s.hidden = max(0, onPage-mostShown)
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

// shownAt is what /metrics shows of the jobs: those that have not ended in order, then those that have ended just now. Who holds a job for long,
// because an engine is silent, is waited for last and once: as much as that one call may take.
func (a *Agent) shownAt(now time.Time) []shown {
	marks, all := a.marks(), a.jobs.all()
	list, past := make([]shown, 0, len(all)), []shown(nil)
	found, held := make([]shown, len(all)), []int(nil)
	for i, j := range all {
		if !j.mu.TryLock() {
			held = append(held, i)
			continue
		}
		found[i] = a.shownOf(j, marks, now)
		j.mu.Unlock()
	}
	for _, i := range held {
		all[i].mu.Lock()
		found[i] = a.shownOf(all[i], marks, now)
		all[i].mu.Unlock()
	}
	for _, s := range found {
		switch {
		case s.Job == nil:
		case s.Phase.Terminal():
			past = append(past, s)
		default:
			list = append(list, s)
		}
	}
	return roomFor(append(list, past...))
}

// shownOf is a job as /metrics shows it; without a Job if that ended long ago. The caller holds j.mu.
func (a *Agent) shownOf(j *job, marks map[string]string, now time.Time) shown {
	if st := j.status(); st.Phase.Terminal() && now.Sub(st.Ended) >= keptShown {
		return shown{}
	}
	v := a.describeUnder(marks, j)
	return shown{&v, j.figuresOf()}
}

// roomFor leaves out what a page has no room for: what runs stays longest.
func roomFor(list []shown) []shown {
	if len(list) <= mostShown {
		return list
	}
	slices.SortStableFunc(list, func(x, y shown) int { return cmp.Compare(truth(y.running), truth(x.running)) })
	return list[:mostShown]
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
		n.Allocated, n.Headroom, n.Jobs = s.Allocated, s.Headroom, s.Jobs
	}
	return n
}
