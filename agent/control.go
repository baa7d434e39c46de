package agent

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"qosctl/cgroup"
	"qosctl/container"
	"qosctl/qos"
)

// Modes of control.
const (
	modeAct     = "act"
	modeAdvise  = "advise"
	modeObserve = "observe"
)

const (
	mendEvery  = 10 * time.Second // a quota changed by somebody else is set again at most so often
	settleTime = 100 * time.Millisecond
	paceEvery  = time.Second     // each write refills the quota's pool: at most one a second for each container
	engineTime = 2 * time.Second // bounds what an engine is asked while a job is locked
)

// controlLoop decides every control.period, and soon after something has started or ended.
func (a *Agent) controlLoop(ctx context.Context) error {
	tick := time.NewTicker(a.cfg.Control.Period)
	defer tick.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-a.kickControl:
			// One look for all that starts together, and never so soon after the last that the rates say nothing.
			if !pause(ctx, max(settleTime, time.Until(last.Add(min(time.Second, a.cfg.Control.Period))))) {
				return nil
			}
		}
		last = time.Now()
		a.decide(ctx, last)
	}
}

func (a *Agent) decideSoon() { kick(a.kickControl) }

// acts says whether decisions about a job are carried out.
func (a *Agent) acts(j *job) bool {
	return a.cfg.Control.Mode == modeAct && a.policyOf(j).Name() != qos.PolicyNone && a.heldJob(j.row.Record) == ""
}

// policyOf is the policy that decides about a job. An observing agent decides nothing: its figures are those of the policy none.
func (a *Agent) policyOf(j *job) qos.Policy {
	if a.cfg.Control.Mode == modeObserve {
		return a.policies[qos.PolicyNone]
	}
	name := cmp.Or(j.steward().Policy, j.spec().QoS.Policy, a.cfg.Control.Policy)
	if p := a.policies[name]; p != nil {
		return p
	}
	return a.policies[a.cfg.Control.Policy]
}

// decide looks at all jobs of the node at once, and carries out what the policies want.
func (a *Agent) decide(ctx context.Context, now time.Time) {
	views := map[string]qos.NodeView{} // by policy: each sees the others' allocations as sold
	held := map[string]*job{}
	jobs, waiting := a.jobs.all(), 0.0 // what was sold to those that are just being started, or stopped
	for _, j := range jobs {
		j.mu.Lock()
		v, ok := a.view(j)
		name := a.policyOf(j).Name()
		if !ok && j.openTask() != nil {
			waiting += j.request()
		}
		j.mu.Unlock()
		if !ok {
			continue
		}
		held[v.ID] = j
		n := views[name]
		if n.Jobs == nil {
			n.Jobs = make([]qos.JobView, 0, len(jobs))
		}
		n.Jobs = append(n.Jobs, v)
		views[name] = n
	}
	all, looks := make([]qos.Decision, 0, len(held)), make([]look, 0, len(views))
	busy, spare := a.load.look(now), a.spare()
	a.metrics.busy.Set(busy)
	for name, n := range views {
		n.Now, n.CPUs, n.Borrow = now, a.cpus-a.cfg.Control.Reserve, a.cfg.Control.Borrow == "idle"
		n.Sold, n.Busy, n.Spare = a.sold()+waiting, busy, spare
		for other, o := range views {
			if other != name {
				for _, v := range o.Jobs {
					n.Sold += max(v.Request, v.Allocation)
				}
			}
		}
		l := look{n, a.policies[name].Decide(n)}
		all, looks = append(all, l.decisions...), append(looks, l)
		a.moveAway(l, held, now)
	}
	a.roomOf(looks, waiting)
	// What is given up comes first, so that the node is never over-committed in between.
	slices.SortStableFunc(all, func(x, y qos.Decision) int { return cmp.Compare(x.To-x.From, y.To-y.From) })
	silent := map[engine]bool{}
	for _, d := range all {
		a.metrics.decided(d, a.carryOut(ctx, held[d.Job], d, now, silent))
		a.observe(held[d.Job], d, now)
	}
	a.entitle()
	a.metrics.look.Observe(time.Since(now).Seconds())
}

// carryOut records a decision and, in mode act, writes its allocation if it differs from the present one. It says what became of it. An engine
// that does not answer in time holds nobody else up: it is silent, and asked for no other job before the next look.
func (a *Agent) carryOut(ctx context.Context, j *job, d qos.Decision, now time.Time, silent map[engine]bool) (outcome string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	l, e := j.live, j.status().Execution
	if e == nil || l != nil && (l.stopping || l.saving) {
		return outcomePostponed
	}
	j.row.Local.Memory = d.Memory // persisted with the account
	j.remember(d, decisionsOf(a.jobs.count()))
	if j.need = d.Bare; d.Rule == "not-cpu-bound" {
		j.need = 0
	}
	if l == nil { // between two iterations: the next one starts with it, unless it is just being made
		if !a.acts(j) || j.busy {
			return outcomePostponed
		}
		e.Allocation = d.To
		return outcomeDone
	}
	if silent[l.engine] {
		return outcomePostponed
	}
	ctx, cancel := context.WithTimeout(ctx, engineTime)
	defer cancel()
	defer func() { silent[l.engine] = ctx.Err() != nil }()
	a.mend(ctx, j, l, now)
	switch {
	case ctx.Err() != nil:
		return outcomePostponed
	case d.To == d.From:
		return outcomeDone
	case !a.acts(j):
		return outcomeAdvised
	case now.Sub(l.written) < paceEvery:
		return outcomePostponed
	case a.reschedules(j) && a.askMove(j, d, now):
		return outcomeMoved
	}
	return a.resize(ctx, j, l, d, now)
}

// resize writes a decision's allocation. The caller holds j.mu.
func (a *Agent) resize(ctx context.Context, j *job, l *live, d qos.Decision, now time.Time) (outcome string) {
	e := j.status().Execution
	begin := time.Now()
	err := l.engine.Resize(ctx, l.container, container.Limits{CPUs: d.To})
	a.metrics.resize.Observe(time.Since(begin).Seconds())
	if err != nil && ctx.Err() != nil {
		return outcomePostponed // the engine is silent; what is in force then is read at the next look
	}
	if err != nil {
		a.resizeFailed(j, l, d, err)
		return outcomeFailed
	}
	a.integrate(j, now)
	j.row.Local.Changed, l.written = now, now
	e.Allocation = d.To
	j.status().Execution.Clock.Resizes++
	j.status().Execution.Clock.Max = max(j.status().Execution.Clock.Max, d.To)
	j.note(now, "resize", "%.2f → %.2f CPUs: %s (%s)", d.From, d.To, d.Reason, d.Rule)
	if err := a.save(j); err != nil {
		a.log.Error("a resize is not on disk yet", "job", j.spec().Name, "err", err)
	}
	a.log.Info("resized", "job", j.spec().Name, "from", d.From, "to", d.To, "rule", d.Rule, "need", d.Need)
	return outcomeDone
}

func (a *Agent) resizeFailed(j *job, l *live, d qos.Decision, err error) {
	if errors.Is(err, cgroup.ErrGone) || errors.Is(err, container.ErrNotRunning) || errors.Is(err, container.ErrNotFound) {
		return // it has just ended: its watch says so
	}
	a.metrics.resizeErrors.Inc()
	j.note(time.Now(), "fault", "resize to %.2f CPUs: %s", d.To, err)
	a.log.Error("resize", "job", j.spec().Name, "container", l.container, "to", d.To, "err", err)
}

// mend reads the quota in force. One that somebody else has changed is counted, said once, and set right at most every mendEvery.
func (a *Agent) mend(ctx context.Context, j *job, l *live, now time.Time) {
	is, err := quotaOf(ctx, l)
	if err != nil || j.steward().Adopted && l.written.IsZero() {
		return
	}
	want := j.status().Execution.Allocation
	if is == 0 || sameCPUs(want, is) || now.Sub(l.mended) < mendEvery || !a.acts(j) && a.cfg.Control.Mode != modeAct {
		return
	}
	if j.row.Local.Mended == 0 {
		a.log.Warn("somebody else changed the quota of a job; it is set again", "job", j.spec().Name, "is", is, "want", want)
	}
	j.row.Local.Mended++
	a.metrics.drift.Inc()
	j.note(now, "drift", "the quota in force was %.2f CPUs, not %.2f: set again", is, want)
	l.mended, l.written = now, now
	if err := l.engine.Resize(ctx, l.container, container.Limits{CPUs: want}); err != nil {
		a.resizeFailed(j, l, qos.Decision{To: want}, err)
	}
}

// quotaOf is the quota in force of a running container, 0: there is none. To ask the engine for all that it knows of each of a thousand
// containers takes more than all else that the agent does.
func quotaOf(ctx context.Context, l *live) (cpus float64, err error) {
	if q, ok := l.engine.(container.QuotaReader); ok && l.group.CPU != "" {
		return q.Quota(l.container, l.group)
	}
	info, err := l.engine.Inspect(ctx, l.container)
	if err != nil || info.State != container.Running {
		return 0, err
	}
	return info.Limits.CPUs, nil
}

// sameCPUs says whether two quotas are the same but for the kernel's rounding to whole microseconds of a 100 ms period.
func sameCPUs(a, b float64) bool { d := a - b; return d < 0.0005 && d > -0.0005 }

// remember keeps a decision, and of those before it as many as there is room for: a list that doubles would have a third of it empty.
func (j *job) remember(d qos.Decision, most int) {
	if n := len(j.decisions); n > 0 && j.decisions[n-1].Reason == d.Reason { // nothing new for minutes is one text
		d.Reason = j.decisions[n-1].Reason
	}
	if n := len(j.decisions) - most + 1; n > 0 {
		j.decisions = slices.Delete(j.decisions, 0, n)
	}
	if len(j.decisions) == cap(j.decisions) {
		j.decisions = append(make([]qos.Decision, 0, min(most, 2*len(j.decisions)+1)), j.decisions...)
	}
	j.decisions = append(j.decisions, d)
	j.touch()
}
