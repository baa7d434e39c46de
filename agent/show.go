package agent

import (
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
}

func (a *Agent) publish(now time.Time) {
	s := &snapshot{At: now, Headroom: a.cpus - a.cfg.Control.Reserve}
	for _, j := range a.jobs.all() {
		j.mu.Lock()
		v, running, ended := a.describe(j), j.live != nil, j.status().Phase.Terminal()
		j.mu.Unlock()
		if ended {
			continue
		}
		s.Jobs = append(s.Jobs, v)
		if running {
			s.Allocated += v.Allocation
			s.Headroom -= max(v.Request, v.Allocation)
		}
	}
	s.Headroom -= a.sold()
	a.snapshot.Store(s)
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
func (a *Agent) describe(j *job) api.Job {
	spec, st := j.spec(), j.status()
	v := api.Job{
		ID: spec.ID, Name: spec.Name, Framework: spec.Framework, Tenant: spec.Tenant,
		Phase: st.Phase, Reason: st.Reason, Owner: st.Owner, Epoch: st.Epoch, Policy: a.policyOf(j).Name(), QoS: spec.QoS,
		Submitted: spec.Submitted, Started: st.Started, Ended: st.Ended, Outcome: outcomeOf(st),
		Request: j.request(), Iterations: spec.Iterations, Tally: st.Tally, Revision: j.rev,
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
