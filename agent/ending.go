package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"qosctl/container"
	"qosctl/qos"
)

// attend has a container watched to its end: without a goroutine where the engine tells ends by itself.
func (a *Agent) attend(j *job, eng engine, id string) {
	watch := func(ctx context.Context) { a.watch(ctx, j, eng, id) }
	if h, ok := eng.(container.Herald); ok && h.Herald(id, func() { a.ended.add(watch) }) == nil {
		return
	}
	a.spawn(watch) // it says what else is the matter
}

// endings are the watches of containers that are told to have ended, until endingsLoop begins them.
type endings struct {
	mu   sync.Mutex
	list []func(context.Context)
	some chan struct{} // capacity 1
}

func newEndings() *endings { return &endings{some: make(chan struct{}, 1)} }

func (e *endings) add(watch func(context.Context)) {
	e.mu.Lock()
	e.list = append(e.list, watch)
	e.mu.Unlock()
	select {
	case e.some <- struct{}{}:
	default:
	}
}

func (e *endings) take() (all []func(context.Context)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	all, e.list = e.list, nil
	return all
}

// endingsLoop watches the containers that are told to have ended.
func (a *Agent) endingsLoop(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.ended.some:
		}
		for _, watch := range a.ended.take() {
			a.spawn(watch)
		}
	}
}

// watch waits for a container's end and draws the consequences.
func (a *Agent) watch(ctx context.Context, j *job, eng engine, id string) {
	exit, err := eng.Wait(ctx, id)
	for try := 0; err != nil && ctx.Err() == nil && !errors.Is(err, container.ErrNotFound); try++ {
		a.log.Error("wait for a container", "container", id, "err", err)
		if !pause(ctx, backoff(try)) {
			return
		}
		exit, err = eng.Wait(ctx, id)
	}
	if ctx.Err() != nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.live == nil || j.live.container != id {
		return
	}
	if err == nil && exit.Finished.Before(j.live.back) {
		now, is := a.endAfterBack(ctx, eng, id)
		if !is {
			a.spawn(func(ctx context.Context) {
				if pause(ctx, againWatched) {
					a.watch(ctx, j, eng, id)
				}
			})
			return
		}
		exit = now
	}
	if j.live.saving { // most likely it is the checkpoint that has ended it: what follows is decided when that is done
		j.live.ended = &exit
		if err != nil {
			j.live.ended = &container.Exit{Code: container.CodeUnknown, Unknown: true, Finished: time.Now(), Reason: "its container can't be found"}
		}
		return
	}
	if err != nil {
		exit = container.Exit{Code: container.CodeUnknown, Unknown: true, Finished: time.Now(), Reason: "its container can't be found"}
	}
	halted := ""
	if stop := j.row.Local.Stop; stop != nil && exit.Finished.After(stop.At.Add(j.live.setBack(time.Now()))) { // else it had ended by itself
		halted = stop.Why
		if stop.Save && !j.live.stopping && exit.Code == 0 && !exit.Unknown { // likewise: nobody has carried the order out yet
			halted = ""
		}
	}
	if halted == "" && exit.Unknown && j.saved() { // with its machine, most likely
		halted = "nobody saw how its container ended"
	}
	a.conclude(j, exit, halted)
}

// againWatched is the pause before a container is watched again that was restored where it was.
const againWatched = time.Second

// endAfterBack is the end of a container of which an end was told from before it was restored where it was; false: it runs. Times alone do not
// tell: the clock may have been set back since.
func (a *Agent) endAfterBack(ctx context.Context, eng engine, id string) (exit container.Exit, is bool) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	info, err := eng.Inspect(ctx, id)
	if err != nil || info.State != container.Exited || info.Exit == nil {
		return exit, false
	}
	return *info.Exit, true
}

// setBack is by how much the clock was set back since this process has carried out the order to stop a container; ≤ 0. By it an end that the
// order had brought about may seem to be from before.
func (l *live) setBack(now time.Time) time.Duration {
	if l.ordered.IsZero() {
		return 0
	}
	return setBackBy(l.ordered, now, now.Sub(l.ordered))
}

// setBackBy is by how much less the wall clock went on than time did; ≤ 0. A second says nothing.
func setBackBy(from, to time.Time, elapsed time.Duration) time.Duration {
	d := to.Round(0).Sub(from.Round(0)) - elapsed
	if d > -time.Second {
		return 0
	}
	return d
}

// conclude books the end of the present execution and starts what follows. The caller holds j.mu.
func (a *Agent) conclude(j *job, exit container.Exit, halted string) {
	now, st := exit.Finished, j.status()
	if now.IsZero() {
		now = time.Now()
	}
	if exit.Reason != "" {
		j.note(now, "fault", "%s", exit.Reason)
	}
	if j.rival != nil {
		a.gaveUp(j, exit, orElse(halted, "it ended while another node had claimed it"))
		return
	}
	a.settle(j, exit, now)
	if halted != "" && st.Intent == qos.IntentNone && j.saved() {
		a.fallBack(j, exit, halted, now)
		return
	}
	if a.breakOff(j, exit, halted, now) {
		return
	}
	e := ending{Code: exit.Code, Halted: halted, NotStarted: notStarted(exit)}
	c := follow(j.spec(), st, e, j.row.Local.InARow, now)
	run := a.book(j, c, exit, halted, now)
	if err := j.enter(c.Phase, now, c.Reason); err != nil {
		a.log.Error("phase", "job", j.spec().Name, "err", err)
	}
	if c.Delete && !j.steward().Attached {
		j.steward().Pending = qos.ActDelete
	}
	if !c.Again || halted != "" {
		if t := j.task(st.Execution.Task); t != nil {
			code := exit.Code
			t.Exit, t.Cause = &code, c.Reason
		}
	}
	j.live = nil
	j.row.Local.Heard = j.row.Local.Heard.since(now)
	a.forgetSaved(j)
	if err := a.save(j); err != nil {
		a.log.Error("end of a run is not on disk yet", "job", j.spec().Name, "err", err)
	}
	a.log.Info("run ended", "job", j.spec().Name, "run", run.Index, "exit", run.ExitCode, "outcome", run.Outcome, "cpu_seconds", run.CPU, "phase", c.Phase)
	a.stewardSoon()
	a.decideSoon()
	if c.Again {
		task := st.Execution.Task
		a.spawn(func(ctx context.Context) { a.beginAfter(ctx, j, task, c.Delay) })
	}
	if old := st.Execution.Index - keepContainers + 1; old > 0 && !j.steward().Adopted {
		id, eng := containerID(j.spec().ID, old, 1), a.engineOf(j) // other incarnations are found by tidy
		a.spawn(func(ctx context.Context) { a.drop(ctx, eng, id) })
	}
}

// settle takes the last reading of the live container into the account. The caller holds j.mu.
func (a *Agent) settle(j *job, exit container.Exit, now time.Time) {
	e := j.status().Execution
	if l := j.live; l != nil {
		a.integrate(j, now)
		if l.reader != nil {
			if own, err := l.reader.Usage(); err == nil {
				e.Account.Count(own)
			}
			j.readThrottling(l)
			_ = l.reader.Close() // read only: nothing to lose
			l.reader = nil
		}
	}
	e.Account.Count(exit.CPU)
}

// notStarted says that a run's container could not be started, which is not the job's fault.
func notStarted(exit container.Exit) bool { return exit.Code == exitNotStarted && exit.CPU == 0 }

// book enters an ended run in the tally and in what is known of runs by this name. The caller holds j.mu.
func (a *Agent) book(j *job, c consequence, exit container.Exit, halted string, now time.Time) qos.Run {
	st, e, k := j.status(), j.status().Execution, &j.status().Execution.Clock
	before := st.Tally
	defer func() { j.row.Local.Used.book(before, st.Tally, now) }()
	run := qos.Run{
		Index: e.Index, Started: e.Started, Ended: now, CPU: e.Account.Consumed().Seconds(), ExitCode: exit.Code, Outcome: c.Outcome,
		MeanCPUs: e.Allocation, MaxCPUs: k.Max, Resizes: k.Resizes, Spent: e.Account.Shares(),
	}
	if k.Seconds > 0 {
		run.MeanCPUs = k.CPUSeconds / k.Seconds
	}
	run.Requested, run.Borrowed, run.Overhead = k.Requested, e.Account.Borrowed().Seconds(), e.Account.Overhead().Seconds()
	run.Down, run.Short, run.Missing = k.Down, k.Short, k.Missing
	if p := e.Account.Progress().Seconds(); p < run.CPU {
		run.Progress = p
	}
	if c.Outcome == qos.Failed {
		run.Reason = c.Reason
	}
	if n := e.Account.Live.N; n > 1 {
		run.Parts = n
	}
	st.AppendRun(j.spec().Framework, run)
	a.metrics.runs.WithLabelValues(string(j.spec().Framework), string(run.Outcome)).Inc()
	l := &j.row.Local
	switch {
	case c.Outcome != qos.Failed:
		l.InARow = 0
	case notStarted(exit):
		l.InARow++
	case halted == "":
		l.InARow++
		st.Failures++
	}
	if c.Outcome != qos.Failed {
		a.learn(j, run)
	}
	if c.Phase == qos.PhaseCompleted && j.spec().Framework == qos.Chronos {
		if now.After(e.Deadline) {
			st.Tally.Missed++
		} else {
			st.Tally.Met++
		}
	}
	return run
}

// halt stops the job's container in the background. Why is written down first: the container is stopped even if the agent ends before
// that is done, and its end is not taken for the job's own. The caller holds j.mu.
func (a *Agent) halt(j *job, why string) {
	l := j.live
	if l == nil || l.stopping {
		return
	}
	if j.row.Local.Stop == nil {
		j.row.Local.Stop = &stopOrder{Why: why, At: time.Now().Round(0)}
		j.note(time.Now(), "stop", "%s", why)
	}
	_ = a.save(j) // written by a later sweep if not now
	a.carryOutStop(j, l)
}

// carryOutStop stops the live container until it has ended. The caller holds j.mu.
func (a *Agent) carryOutStop(j *job, l *live) {
	j.readThrottling(l)
	l.stopping, l.ordered = true, time.Now()
	if stop := j.row.Local.Stop; stop != nil && stop.Save { // from here on its end is not its own, for the next agent either
		stop.Save = false
		_ = a.save(j)
	}
	a.spawn(func(ctx context.Context) {
		for try := 0; ; try++ {
			err := l.engine.Stop(ctx, l.container, a.cfg.Run.KillGrace)
			if err == nil || errors.Is(err, container.ErrNotFound) || errors.Is(err, container.ErrNotRunning) || ctx.Err() != nil {
				return
			}
			a.log.Error("stop container", "job", j.spec().Name, "container", l.container, "err", err)
			if !pause(ctx, backoff(try)) {
				return
			}
		}
	})
}
