package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"qosctl/container"
	"qosctl/qos"
)

// Labels of our containers: by them a container is found again when the store is lost.
const (
	labelJob         = "qosctl.job"
	labelExecution   = "qosctl.execution"
	labelIncarnation = "qosctl.incarnation"
	labelBase        = "qosctl.base" // CPU time embodied in the checkpoint that it was restored from
	labelTask        = "qosctl.task"
	labelRequest     = "qosctl.request"   // CPUs, for qosctl release
	labelSucceeded   = "qosctl.succeeded" // runs before it that exited 0
)

// startTime bounds how long a container may take from its shim's start to its command's.
const startTime = 15 * time.Second

// exitNotStarted is the exit code of a task whose container could not be started, as Docker's.
const exitNotStarted = 125

func containerID(jobID string, execution, incarnation int) string {
	return fmt.Sprintf("%s-%d-%d", jobID, execution, incarnation)
}

// here is the id of the present execution's container. The caller holds j.mu; there is an execution.
func (j *job) here() string {
	a := &j.status().Execution.Account
	return a.Entries[a.Live].Container
}

// begin starts the next execution or iteration of a job for a task, in a container of its own.
// What is to be is written down before it is done, so that a crash at any line starts nothing twice.
func (a *Agent) begin(j *job, taskID string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.live != nil || j.busy || j.gone || !startable(j.status().Phase) || j.status().Intent != qos.IntentNone {
		return nil
	}
	if err := a.notHanded(j.spec().ID, a.node); err != nil {
		return err
	}
	t := j.task(taskID)
	if t == nil || t.Exit != nil {
		return fmt.Errorf("task %s holds no claim", taskID)
	}
	row := j.row.clone()
	open := a.openExecution
	if j.saved() {
		open = a.openIncarnation
		if j.status().Execution.Account.Full() {
			return a.endFull(j, t)
		}
	}
	if err := open(j, t); err != nil {
		return err
	}
	if err := a.save(j); err != nil {
		row.version = j.row.version
		j.row = row // nothing runs: as if it had not been asked
		return err
	}
	j.busy = true
	spec := a.containerSpec(j, t)
	a.spawn(func(ctx context.Context) { a.launch(ctx, j, spec) })
	return nil
}

// openExecution makes the job's next execution the present one.
func (a *Agent) openExecution(j *job, t *task) error {
	now, st, spec := time.Now(), j.status(), j.spec()
	index, allocation := 1, j.request()
	if e := st.Execution; e != nil {
		index = e.Index + 1
		if spec.Framework == qos.Chronos && a.acts(j) {
			allocation = e.Allocation // a series goes on with what it has
		}
	}
	if spec.Framework == qos.Marathon || st.Started.IsZero() {
		st.Started = now
		if spec.Framework == qos.Chronos {
			st.Started = spec.SeriesStart()
		}
	}
	if err := j.enter(qos.PhaseRunning, now, fmt.Sprintf("run %d started for task %s", index, t.ID)); err != nil {
		return err
	}
	a.countMove(st)
	st.Tally.Waited += max(0, now.Sub(waitedFrom(spec, st)).Seconds())
	st.Epoch, st.Seq, st.Owner = st.Epoch+1, 0, a.node
	st.Execution = &qos.Execution{
		Index: index, Task: t.ID, Started: now, Deadline: spec.QoS.Deadline.From(st.Started), Allocation: allocation,
		Clock: qos.Clock{Max: allocation},
	}
	id := containerID(spec.ID, index, 1)
	st.Execution.Account.StartIncarnation(qos.Entry{Node: a.node, Container: id, StatContainer: id})
	st.Saved = nil
	l := &j.row.Local
	l.Stop, l.Restoring, l.Wish, l.Elsewhere, l.Sandbox = nil, 0, 0, 0, t.Dir
	return nil
}

// countMove counts that a job begins to run on another node than it did last.
func (a *Agent) countMove(st *qos.Status) {
	if e := st.Execution; e != nil && e.Account.Live.Node != "" && e.Account.Live.Node != a.node {
		st.Tally.Moves++
	}
}

// waitedFrom is since when a job has waited for its next run.
func waitedFrom(spec *qos.Spec, st *qos.Status) time.Time {
	switch n := len(st.Runs); {
	case n > 0:
		return st.Runs[n-1].Ended
	case spec.Framework == qos.Chronos:
		return spec.SeriesStart()
	}
	return spec.Submitted
}

func (a *Agent) containerSpec(j *job, t *task) container.Spec {
	spec, e := j.spec(), j.status().Execution
	s := container.Spec{
		ID: containerID(spec.ID, e.Index, e.Account.Live.N),
		Labels: map[string]string{
			labelJob: spec.ID, labelExecution: strconv.Itoa(e.Index), labelIncarnation: strconv.Itoa(e.Account.Live.N), labelTask: t.ID,
			labelSucceeded: strconv.Itoa(j.status().Tally.Succeeded),
			labelRequest:   strconv.FormatFloat(j.request(), 'g', -1, 64),
		},
		Command: spec.Process.Command, Args: spec.Process.Args,
		Env: t.Env, Dir: t.Dir, User: container.User{UID: t.UID, GID: t.GID},
		Parent: fmt.Sprintf("%s-%d", spec.ID, e.Index),
		Limits: container.Limits{CPUs: e.Allocation, Shares: j.request()},
	}
	if c := spec.Container; c != nil {
		s.Image = c.Image
		for _, v := range c.Volumes {
			s.Mounts = append(s.Mounts, container.Mount{Source: v.HostPath, Target: v.ContainerPath, ReadOnly: v.ReadOnly})
		}
	}
	if a.engineOf(j) == a.engines.docker {
		a.dockerSpec(j, t, &s)
	}
	return s
}

// launch creates and starts the container of the present execution, and watches it. The job is busy meanwhile.
func (a *Agent) launch(ctx context.Context, j *job, s container.Spec) {
	if !a.passFence(ctx, j) {
		return
	}
	j.mu.Lock()
	restoring := j.row.Local.Restoring > 0
	j.mu.Unlock()
	if restoring {
		a.restore(ctx, j, s)
		return
	}
	eng := a.engineOf(j)
	err := a.prepare(ctx, j, &s)
	if err == nil {
		err = eng.Create(ctx, s)
	}
	if err == nil || errors.Is(err, container.ErrExists) { // made before a crash: the id holds the job's whole UUID
		a.zero(ctx, j, eng, s.ID)
		err = eng.Start(ctx, s.ID)
	}
	if err != nil {
		err = a.doubt(ctx, eng, s.ID, err)
	}
	if ctx.Err() != nil {
		return // the agent stops: its successor finds what was begun
	}
	if err == nil {
		a.hold(ctx, j, eng, s.ID)
		return
	}
	a.log.Warn("container not started", "job", j.spec().Name, "container", s.ID, "err", err)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.busy = false
	a.conclude(j, container.Exit{Code: exitNotStarted, Finished: time.Now(), Reason: err.Error()}, "")
}

// doubt finds out whether a container whose start failed runs all the same, or has ended: then there is no error. While somebody else
// is starting it, that is waited for; one that stays without a command is stopped.
func (a *Agent) doubt(ctx context.Context, eng engine, id string, why error) error {
	for until := time.Now().Add(startTime); ; {
		info, err := eng.Inspect(ctx, id)
		switch {
		case err == nil && info.State != container.Created:
			return nil
		case errors.Is(err, container.ErrNotFound), !errors.Is(why, container.ErrStarted) && err == nil:
			return why
		case time.Now().After(until):
			return errors.Join(why, eng.Stop(ctx, id, 0))
		}
		if !pause(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// hold makes a container that runs the job's live one, and watches it to its end.
func (a *Agent) hold(ctx context.Context, j *job, eng engine, id string) {
	info, err := eng.Inspect(ctx, id)
	if err != nil && ctx.Err() == nil {
		a.log.Warn("look at a container", "container", id, "err", err) // its counters are opened by a later sweep
	}
	if a.holdAs(j, &live{container: id, engine: eng, saved: time.Now(), since: time.Now()}, info, err) {
		a.attend(j, eng, id)
	}
}

// holdAs is hold, up to the watch. False: the job is gone.
func (a *Agent) holdAs(j *job, l *live, info container.Info, err error) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.gone {
		return false
	}
	j.live, j.busy = l, false
	if err == nil {
		a.locate(j, info)
	}
	j.touch()
	switch stop := j.row.Local.Stop; {
	case j.steward().Adopted:
	case stop != nil && stop.Save && a.engineOf(j) == a.engines.docker && !isClosed(a.tested):
		a.spawn(func(ctx context.Context) { a.suspendWhenTested(ctx, j, l) })
	case stop != nil && stop.Save && a.keeps(j):
		a.carryOutSuspend(j, l)
	case stop != nil: // the agent ended before the container did
		a.carryOutStop(j, l)
	case j.status().Intent == qos.IntentCancel: // it came while the container was being made
		a.halt(j, string(qos.IntentCancel))
	}
	a.decideSoon()
	return true
}

// suspendWhenTested carries out an order to save and stop that the agent before this one was given, as soon as it is known whether this
// node can save anything.
func (a *Agent) suspendWhenTested(ctx context.Context, j *job, l *live) {
	if !a.untilTested(ctx) {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.live != l || l.stopping || j.row.Local.Stop == nil:
	case a.keeps(j):
		a.carryOutSuspend(j, l)
	default:
		a.carryOutStop(j, l)
	}
}

// locate opens the live container's counters, and takes the quota that is in force for the allocation. The caller holds j.mu.
func (a *Agent) locate(j *job, info container.Info) {
	l, e := j.live, j.status().Execution
	r, err := a.engines.cgroups.OpenReader(info.Cgroup)
	if err != nil {
		return // a container that has ended meanwhile is seen by its watch; another's are tried again
	}
	l.reader, l.group = r, info.Cgroup
	_ = errors.Join(r.Read(&l.seen), r.Throttling(&l.seen)) // likewise
	entry := e.Account.Entries[e.Account.Live]
	entry.Cgroup = info.Cgroup.CPUAcct
	e.Account.Entries[e.Account.Live] = entry
	if in := info.Limits.CPUs; info.State == container.Running && in > 0 && !j.steward().Adopted && !sameCPUs(in, e.Allocation) {
		a.integrate(j, time.Now())
		j.note(time.Now(), "resize", "%.2f CPUs are in force, not %.2f: taken as they are", in, e.Allocation)
		e.Allocation = in // the former agent's last write, or what released the job after it
	}
}

// beginAfter starts the next iteration of a series, at once or after a failure's back-off.
func (a *Agent) beginAfter(ctx context.Context, j *job, taskID string, delay time.Duration) {
	if !pause(ctx, delay) {
		return
	}
	for try := 0; a.goesOn(j, taskID); try++ {
		err := a.begin(j, taskID)
		if err == nil {
			return
		}
		a.log.Error("next iteration", "job", j.spec().Name, "err", err)
		if !pause(ctx, backoff(try)) {
			return
		}
	}
}

// goesOn says whether a series goes on for a task. One whose stand-in has been gone for too long ends its task: what Mesos sold for it
// may be sold again.
func (a *Agent) goesOn(j *job, taskID string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	t := j.task(taskID)
	if p := j.status().Phase; t == nil || t.Exit != nil || p == qos.PhaseSuspended || !startable(p) {
		return false
	}
	if a.atBoundary(j, taskID) {
		a.stewardSoon()
		return false
	}
	if j.attached > 0 || time.Since(j.detached) <= a.cfg.Run.DetachGrace {
		return true
	}
	code := exitNotStarted
	t.Exit, t.Cause = &code, "its stand-in has been gone for "+a.cfg.Run.DetachGrace.String()
	if err := j.enter(qos.PhaseLost, time.Now(), t.Cause); err != nil {
		a.log.Error("phase", "job", j.spec().Name, "err", err)
	}
	_ = a.save(j) // written by a later sweep if not now
	return false
}

// pause waits for d or the end of ctx; it says whether d has passed.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
