package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"qosctl/cgroup"
	"qosctl/container"
	"qosctl/qos"
)

// saveEvery bounds how much of what only this process knows (borrowed CPU, integrals) a crash can lose; the counters themselves are the kernel's.
const saveEvery = 10 * time.Second

// saveAtOnce bounds the rows of one transaction.
const saveAtOnce = 128

// sampleLoop reads the counters of all live containers once every control.sample.
func (a *Agent) sampleLoop(ctx context.Context) error {
	tick := time.NewTicker(a.cfg.Control.Sample)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			a.clockJump(last, now)
			period := now.Sub(last)
			last = now
			a.sweep(ctx, now)
			a.metrics.sampled(period, a.cfg.Control.Sample, time.Since(now))
		}
	}
}

// clockJump says loudly that the wall clock was set; deadlines are wall times, elapsed times are not touched.
func (a *Agent) clockJump(last, now time.Time) {
	wall, mono := now.Round(0).Sub(last.Round(0)), now.Sub(last)
	if d := wall - mono; d > time.Second || d < -time.Second {
		a.metrics.jumps.Inc()
		a.log.Warn("the wall clock jumped", "by", d)
	}
}

// sweep reads each live container once, persists the accounts that are due, and publishes a snapshot.
func (a *Agent) sweep(ctx context.Context, now time.Time) {
	var due []*job
	for _, j := range a.jobs.all() {
		j.mu.Lock()
		if a.sample(ctx, j, now) {
			due = append(due, j)
		}
		j.mu.Unlock()
	}
	// In parts, in the order of the store: what a transaction writes is in memory three times over.
	slices.SortFunc(due, func(x, y *job) int { return strings.Compare(x.spec().ID, y.spec().ID) })
	for part := range slices.Chunk(due, saveAtOnce) {
		a.saveAll(part)
	}
	a.keepHistories(now, false)
	a.keepModels(now, false)
	a.publish(now)
}

// sample takes one reading of the job's container into its account, and says whether the row should be persisted. The caller holds j.mu.
func (a *Agent) sample(ctx context.Context, j *job, now time.Time) bool {
	l := j.live
	if l == nil || l.saving {
		return j.dirty
	}
	if l.reader != nil {
		a.readCounters(j, l)
	}
	a.reopen(ctx, j, l)
	a.integrate(j, now)
	a.periodically(j, l, now)
	if grace := a.cfg.Run.DetachGrace; !j.steward().Adopted && j.attached == 0 && now.Sub(j.detached) > grace {
		a.stopOrphan(j, "its stand-in has been gone for "+grace.String())
	}
	if now.Sub(l.saved) < saveEvery && !j.dirty {
		return false
	}
	l.saved = now
	return true
}

// reopen tries again to open counters that could not be opened. The caller holds j.mu.
func (a *Agent) reopen(ctx context.Context, j *job, l *live) {
	if l.reader != nil || l.lost {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if info, err := l.engine.Inspect(ctx, l.container); err == nil && info.State == container.Running {
		a.locate(j, info)
	}
}

func (a *Agent) readCounters(j *job, l *live) {
	s := l.seen
	switch err := l.reader.Read(&s); {
	case errors.Is(err, cgroup.ErrGone):
		_ = l.reader.Close() // a container's end arrives by its watch
		l.reader, l.lost = nil, true
		if !j.steward().Adopted { // the cgroup is ours, and stays as long as the container is kept
			j.note(time.Now(), "fault", "its cgroup was removed: its CPU time can't be read any more, nor limited")
			a.log.Error("a container's cgroup was removed", "job", j.spec().Name, "container", l.container)
		}
		return
	case err != nil:
		a.metrics.readErrors.Inc()
		a.log.Debug("read counters", "container", l.container, "err", err)
		return
	}
	if dt := s.At.Sub(l.seen.At).Seconds(); dt > 0 && !l.seen.At.IsZero() {
		l.rate = max(0, (s.Usage-l.seen.Usage).Seconds()/dt)
		if over := (s.Usage - l.seen.Usage) - time.Duration(j.request()*dt*float64(time.Second)); over > 0 {
			account := &j.status().Execution.Account
			account.Borrow(account.Live, over)
		}
	}
	j.cfs.add(l.seen, s)
	l.seen = s
	j.status().Execution.Account.Count(s.Usage)
}

// readThrottling counts what the quota held back, with cgroup v1 a file of its own: at each decision, and before and at the end, not at every sample.
// Of a container that ends by itself, and whose cgroup goes with it, the last seconds are not known then. The caller holds j.mu.
func (j *job) readThrottling(l *live) {
	s := l.seen
	if l.reader == nil || l.reader.Throttling(&s) != nil {
		return // a decision takes it for not throttled
	}
	j.cfs.add(l.seen, s)
	l.seen = s
}

// cfs are the quota's counters over all containers of a job that this agent has held.
type cfs struct {
	periods, throttled uint64
	time               time.Duration // throttled, added up over CPUs
}

// add counts what lies between two readings of one container.
func (c *cfs) add(from, to cgroup.Sample) {
	if from.At.IsZero() || to.Periods < from.Periods || to.Throttled < from.Throttled || to.ThrottledTime < from.ThrottledTime {
		return
	}
	c.periods += to.Periods - from.Periods
	c.throttled += to.Throttled - from.Throttled
	c.time += to.ThrottledTime - from.ThrottledTime
}

// integrate adds the time since the last look to the execution's clock. The caller holds j.mu.
func (a *Agent) integrate(j *job, now time.Time) {
	e, need := j.status().Execution, j.need
	if now.After(e.Deadline) { // it is missed: nothing more can be lacking
		need = 0
	}
	e.Clock.Integrate(now.Sub(e.Started).Seconds(), e.Allocation, j.request(), need)
}

// view is what the policy is told of a job. ok is false when there is nothing to decide. A series between two warm iterations is
// in the view, or others would be given its CPUs for that moment. The caller holds j.mu.
func (a *Agent) view(j *job) (v qos.JobView, ok bool) {
	l, st := j.live, j.status()
	if st.Execution == nil {
		return v, false
	}
	e, between := st.Execution, l == nil && j.openTask() != nil && (j.busy || st.Phase == qos.PhaseEnded)
	if !between && (l == nil || l.stopping || l.reader == nil) {
		return v, false
	}
	p := &j.pulse
	if l != nil {
		j.readThrottling(l)
		p.measure(l.seen, e.Allocation)
	} else if p.base.At.IsZero() { // nothing is known of it yet
		p.usage, p.throttled = e.Allocation, 1
	}
	v = a.outline(j)
	v.Allocation, v.Usage, v.Throttled = e.Allocation, p.usage, p.throttled
	v.Deadline, v.RunStart, v.Progress = e.Deadline, e.Started, e.Account.Progress().Seconds()
	if l != nil {
		v.Placed = l.since
	}
	if c := e.Account.Consumed().Seconds(); c > v.Progress {
		v.Consumed = c
	}
	switch {
	case l == nil && !j.busy:
		v.Progress = 0
	case l == nil && j.row.Local.Restoring > 0 && j.saved():
		v.Progress = st.Saved.CPU.Seconds()
	}
	return v, true
}

// outline is what a policy is told of a job whether it runs or not. The caller holds j.mu.
func (a *Agent) outline(j *job) qos.JobView {
	spec, st := j.spec(), j.status()
	v := qos.JobView{
		ID: spec.ID, Framework: spec.Framework, QoS: spec.QoS, Request: j.request(), Start: st.Started,
		Runs: 1, RunsLeft: 1, Model: a.model(spec.Framework, spec.Name), LastChange: j.row.Local.Changed, Memory: j.row.Local.Memory,
	}
	v.Min, v.Max = a.bounds(spec)
	if spec.Framework == qos.Chronos {
		v.Runs, v.RunsLeft = max(1, spec.Iterations), max(1, spec.Iterations-st.Tally.Succeeded)
		if spec.QoS.IterationsBy == qos.IterationsByChronos {
			v.Deploy = (a.cfg.Control.DeployTime + a.cfg.Control.SleepingTime).Seconds()
		}
	}
	return v
}

// bounds are the least and the greatest allocation of a job.
func (a *Agent) bounds(spec *qos.Spec) (least, most float64) {
	least, most = spec.QoS.MinCPUs, spec.QoS.MaxCPUs
	if least == 0 {
		least = a.cfg.Control.MinCPUs
	}
	if most == 0 {
		most = a.cfg.Control.MaxCPUs
	}
	if most == 0 || most > a.cpus {
		most = a.cpus
	}
	return min(least, most), most
}

// minWindow is the shortest time over which a rate says anything: the counters step by the kernel's tick, and quotas by 100 ms.
const minWindow = 900 * time.Millisecond

// pulse is what the policy must know of a job beyond its account. It outlives a series' containers.
type pulse struct {
	base      cgroup.Sample // reading that the rates count from
	usage     float64       // CPUs
	throttled float64       // share of periods
}

// measure takes the rates since the last look, if that is long enough ago. Of a container that has just started nothing is known:
// it counts as one that uses all it is given.
func (p *pulse) measure(seen cgroup.Sample, allocation float64) {
	dt := seen.At.Sub(p.base.At)
	switch {
	case p.base.At.IsZero() || seen.Usage < p.base.Usage || seen.Periods < p.base.Periods: // another container
		if p.base.At.IsZero() {
			p.usage, p.throttled = allocation, 1
		}
		p.base = seen
	case dt >= minWindow:
		p.usage, p.throttled = (seen.Usage-p.base.Usage).Seconds()/dt.Seconds(), 0
		if n := seen.Periods - p.base.Periods; n > 0 {
			p.throttled = float64(seen.Throttled-p.base.Throttled) / float64(n)
		}
		p.base = seen
	}
}
