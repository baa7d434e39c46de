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
	paceEvery  = time.Second // each write refills the quota's pool: at most one a second for each container
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
	return a.cfg.Control.Mode == modeAct && a.policyOf(j).Name() != qos.PolicyNone
}

// policyOf is the policy that decides about a job. An observing agent decides nothing: its figures are those of the policy none.
func (a *Agent) policyOf(j *job) qos.Policy {
	if a.cfg.Control.Mode == modeObserve {
		return a.policies[qos.PolicyNone]
	}
	name := cmp.Or(j.row.Local.Policy, j.spec().QoS.Policy, a.cfg.Control.Policy)
	if p := a.policies[name]; p != nil {
		return p
	}
	return a.policies[a.cfg.Control.Policy]
}

// decide looks at all jobs of the node at once, and carries out what the policies want.
func (a *Agent) decide(ctx context.Context, now time.Time) {
	views := map[string]qos.NodeView{} // by policy: each sees the others' allocations as sold
	held := map[string]*job{}
	for _, j := range a.jobs.all() {
		j.mu.Lock()
		v, ok := a.view(j)
		name := a.policyOf(j).Name()
		j.mu.Unlock()
		if !ok {
			continue
		}
		held[v.ID] = j
		n := views[name]
		n.Jobs = append(n.Jobs, v)
		views[name] = n
	}
	var all []qos.Decision
	busy := a.load.look(now)
	a.metrics.busy.Set(busy)
	for name, n := range views {
		n.Now, n.CPUs, n.Borrow = now, a.cpus-a.cfg.Control.Reserve, a.cfg.Control.Borrow == "idle"
		n.Sold, n.Busy = a.sold(), busy
		for other, o := range views {
			if other != name {
				for _, v := range o.Jobs {
					n.Sold += max(v.Request, v.Allocation)
				}
			}
		}
		all = append(all, a.policies[name].Decide(n)...)
	}
	// What is given up comes first, so that the node is never over-committed in between.
	slices.SortStableFunc(all, func(x, y qos.Decision) int { return cmp.Compare(x.To-x.From, y.To-y.From) })
	for _, d := range all {
		a.carryOut(ctx, held[d.Job], d, now)
	}
	a.metrics.decided(all)
}

// carryOut records a decision and, in mode act, writes its allocation if it differs from the present one.
func (a *Agent) carryOut(ctx context.Context, j *job, d qos.Decision, now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	l, e := j.live, j.status().Execution
	if e == nil || l != nil && (l.stopping || l.saving) {
		return
	}
	j.row.Local.Memory = d.Memory // persisted with the account
	j.remember(d)
	if l == nil { // between two iterations: the next one starts with it, unless it is just being made
		if a.acts(j) && !j.busy {
			e.Allocation = d.To
		}
		return
	}
	a.mend(ctx, j, l, now)
	if d.To == d.From || !a.acts(j) || now.Sub(l.written) < paceEvery {
		return
	}
	if a.reschedules(j) && a.askMove(j, d, now) {
		return
	}
	begin := time.Now()
	err := l.engine.Resize(ctx, l.container, container.Limits{CPUs: d.To})
	a.metrics.resize.Observe(time.Since(begin).Seconds())
	if err != nil {
		a.resizeFailed(j, l, d, err)
		return
	}
	a.integrate(j, now)
	j.row.Local.Changed, l.written = now, now
	e.Allocation = d.To
	j.row.Local.Clock.Resizes++
	j.row.Local.Clock.Max = max(j.row.Local.Clock.Max, d.To)
	j.note(now, "resize", "%.2f → %.2f CPUs: %s (%s)", d.From, d.To, d.Reason, d.Rule)
	j.status().Seq++
	if err := a.save(j); err != nil {
		a.log.Error("a resize is not on disk yet", "job", j.spec().Name, "err", err)
	}
	a.log.Info("resized", "job", j.spec().Name, "from", d.From, "to", d.To, "rule", d.Rule, "need", d.Need)
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
	info, err := l.engine.Inspect(ctx, l.container)
	if err != nil || info.State != container.Running || j.row.Local.Adopted && l.written.IsZero() {
		return
	}
	want, is := j.status().Execution.Allocation, info.Limits.CPUs
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

// sameCPUs says whether two quotas are the same but for the kernel's rounding to whole microseconds of a 100 ms period.
func sameCPUs(a, b float64) bool { d := a - b; return d < 0.0005 && d > -0.0005 }

func (j *job) remember(d qos.Decision) {
	j.decisions = append(j.decisions, d)
	if n := len(j.decisions) - maxDecisions; n > 0 {
		j.decisions = slices.Delete(j.decisions, 0, n)
	}
	j.touch()
}
