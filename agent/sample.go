package agent

import (
	"context"
	"errors"
	"time"

	"qosctl/cgroup"
	"qosctl/container"
	"qosctl/qos"
)

// saveEvery bounds how much of what only this process knows (borrowed CPU, integrals) a crash can lose; the counters themselves are the kernel's.
const saveEvery = 10 * time.Second

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
			a.metrics.period.Observe(now.Sub(last).Seconds())
			last = now
			a.sweep(ctx, now)
		}
	}
}

// clockJump says loudly that the wall clock was set; deadlines are wall times, elapsed times are not touched.
func (a *Agent) clockJump(last, now time.Time) {
	wall, mono := now.Round(0).Sub(last.Round(0)), now.Sub(last)
	if d := wall - mono; d > time.Second || d < -time.Second {
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
	a.saveAll(due)
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
	if grace := a.cfg.Run.DetachGrace; !j.row.Local.Adopted && j.attached == 0 && now.Sub(j.detached) > grace {
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

// countLast counts what an execution's cgroup has counted of a container whose own cgroup is gone: its end is on its way.
func (a *Agent) countLast(j *job, l *live) bool {
	u, err := l.reader.Usage()
	if err == nil {
		j.status().Execution.Account.Count(u)
	}
	return err == nil
}

func (a *Agent) readCounters(j *job, l *live) {
	var s cgroup.Sample
	switch err := l.reader.Read(&s); {
	case errors.Is(err, cgroup.ErrGone) && a.countLast(j, l):
		return // its own cgroup went with it; what counts is its execution's
	case errors.Is(err, cgroup.ErrGone):
		_ = l.reader.Close() // a container's end arrives by its watch
		l.reader, l.lost = nil, true
		if !j.row.Local.Adopted { // the cgroup is ours, and stays as long as the container is kept
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
	l.seen = s
	j.status().Execution.Account.Count(s.Usage)
}

// integrate adds the time since the last look to the integral of the allocation. The caller holds j.mu.
func (a *Agent) integrate(j *job, now time.Time) {
	k, e := &j.row.Local.Clock, j.status().Execution
	if dt := now.Sub(e.Started).Seconds() - k.Seconds; dt > 0 {
		k.Seconds += dt
		k.CPUSeconds += dt * e.Allocation
	}
	k.Max = max(k.Max, e.Allocation)
}

// view is what the policy is told of a job. ok is false when there is nothing to decide. A series between two warm iterations is
// in the view, or others would be given its CPUs for that moment. The caller holds j.mu.
func (a *Agent) view(j *job) (v qos.JobView, ok bool) {
	l, st, spec := j.live, j.status(), j.spec()
	if st.Execution == nil {
		return v, false
	}
	e, between := st.Execution, l == nil && j.openTask() != nil && (j.busy || st.Phase == qos.PhaseEnded)
	if !between && (l == nil || l.stopping || l.reader == nil) {
		return v, false
	}
	p := &j.pulse
	if l != nil {
		p.measure(l.seen, e.Allocation)
	} else if p.base.At.IsZero() { // nothing is known of it yet
		p.usage, p.throttled = e.Allocation, 1
	}
	v = qos.JobView{
		ID: spec.ID, Framework: spec.Framework, QoS: spec.QoS, Request: j.request(),
		Allocation: e.Allocation, Usage: p.usage, Throttled: p.throttled,
		Start: st.Started, Deadline: e.Deadline, RunStart: e.Started, Progress: e.Account.Progress().Seconds(),
		Runs: 1, RunsLeft: 1, Model: a.store.model(spec.Framework, spec.Name), LastChange: j.row.Local.Changed, Memory: j.row.Local.Memory,
	}
	if l == nil && !j.busy {
		v.Progress = 0
	}
	v.Min, v.Max = a.bounds(spec)
	if spec.Framework == qos.Chronos {
		v.Runs, v.RunsLeft = max(1, spec.Iterations), max(1, spec.Iterations-st.Tally.Succeeded)
		if spec.QoS.IterationsBy == qos.IterationsByChronos {
			v.Deploy = (a.cfg.Control.DeployTime + a.cfg.Control.SleepingTime).Seconds()
		}
	}
	return v, true
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
