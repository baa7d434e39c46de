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
	labelTask        = "qosctl.task"
	labelRequest     = "qosctl.request" // CPUs, for qosctl release
)

// startTime bounds how long a container may take from its shim's start to its command's.
const startTime = 15 * time.Second

// exitNotStarted is the exit code of a task whose container could not be started, as Docker's.
const exitNotStarted = 125

func containerID(jobID string, execution int) string {
	return fmt.Sprintf("%.8s-%d-1", jobID, execution) // its first incarnation; a restore will make others
}

// begin starts the next execution or iteration of a job for a task, in a container of its own.
// What is to be is written down before it is done, so that a crash at any line starts nothing twice.
func (a *Agent) begin(j *job, taskID string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.live != nil || j.busy {
		return nil
	}
	t := j.task(taskID)
	if t == nil || t.Exit != nil {
		return fmt.Errorf("task %s holds no claim", taskID)
	}
	before := j.row
	if err := a.openExecution(j, t); err != nil {
		return err
	}
	if err := a.save(j); err != nil {
		j.row = before // nothing runs: as if it had not been asked
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
	st.Epoch, st.Seq, st.Owner = st.Epoch+1, 0, a.node
	st.Execution = &qos.Execution{
		Index: index, Task: t.ID, Started: now, Deadline: spec.QoS.Deadline.From(st.Started), Allocation: allocation,
	}
	id := containerID(spec.ID, index)
	st.Execution.Account.StartIncarnation(qos.Entry{Node: a.node, Container: id, StatContainer: id})
	j.row.Local.Clock = clock{Max: allocation}
	return nil
}

func (a *Agent) containerSpec(j *job, t *task) container.Spec {
	spec, e := j.spec(), j.status().Execution
	s := container.Spec{
		ID: containerID(spec.ID, e.Index),
		Labels: map[string]string{
			labelJob: spec.ID, labelExecution: strconv.Itoa(e.Index), labelIncarnation: "1", labelTask: t.ID,
			labelRequest: strconv.FormatFloat(j.request(), 'g', -1, 64),
		},
		Command: spec.Process.Command, Args: spec.Process.Args,
		Env: t.Env, Dir: t.Dir, User: container.User{UID: t.UID, GID: t.GID},
		Parent: fmt.Sprintf("%.8s-%d", spec.ID, e.Index),
		Limits: container.Limits{CPUs: e.Allocation, Shares: j.request()},
	}
	if c := spec.Container; c != nil {
		s.Image = c.Image
		for _, v := range c.Volumes {
			s.Mounts = append(s.Mounts, container.Mount{Source: v.HostPath, Target: v.ContainerPath, ReadOnly: v.ReadOnly})
		}
	}
	return s
}

// launch creates and starts the container of the present execution, and watches it. The job is busy meanwhile.
func (a *Agent) launch(ctx context.Context, j *job, s container.Spec) {
	err := a.engine.Create(ctx, s)
	if errors.Is(err, container.ErrExists) {
		err = nil
	}
	if err == nil {
		err = a.engine.Start(ctx, s.ID)
	}
	if errors.Is(err, container.ErrStarted) { // by an agent that was killed meanwhile
		err = a.awaitStart(ctx, s.ID)
	}
	if ctx.Err() != nil {
		return // the agent stops: its successor finds what was begun
	}
	if err != nil {
		a.log.Warn("container not started", "job", j.spec().Name, "container", s.ID, "err", err)
		j.mu.Lock()
		j.busy = false
		a.conclude(j, container.Exit{Code: exitNotStarted, Finished: time.Now()}, fmt.Sprintf("container not started: %s", err))
		j.mu.Unlock()
		return
	}
	a.hold(ctx, j, a.engine, s.ID)
}

// awaitStart waits until a container that somebody else is starting runs, or has ended.
func (a *Agent) awaitStart(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		info, err := a.engine.Inspect(ctx, id)
		if err != nil || info.State != container.Created {
			return err
		}
		if !pause(ctx, 20*time.Millisecond) {
			return fmt.Errorf("it has been starting for %s", startTime)
		}
	}
}

// hold makes a container that runs the job's live one, and watches it to its end.
func (a *Agent) hold(ctx context.Context, j *job, eng engine, id string) {
	l := &live{container: id, engine: eng, detached: time.Now(), saved: time.Now()}
	if info, err := eng.Inspect(ctx, id); err == nil {
		l.reader, err = a.cgroups.OpenReader(info.Cgroup)
		if err == nil {
			_ = l.reader.Read(&l.seen) // a container that has ended meanwhile is seen by the watch below
		}
		j.mu.Lock()
		if e := j.status().Execution; e != nil {
			entry := e.Account.Entries[1]
			entry.Cgroup = info.Cgroup.CPUAcct
			e.Account.Entries[1] = entry
			if in := info.Limits.CPUs; in > 0 && !j.row.Local.Adopted && !sameCPUs(in, e.Allocation) {
				a.integrate(j, time.Now())
				j.note(time.Now(), "resize", "%.2f CPUs are in force, not %.2f: taken as they are", in, e.Allocation)
				e.Allocation = in // the former agent's last write, or what released the job after it
			}
		}
		j.mu.Unlock()
	}
	j.mu.Lock()
	j.live, j.busy = l, false
	j.touch()
	if j.status().Intent == qos.IntentCancel && !j.row.Local.Adopted { // it came while the container was being made
		a.halt(j, string(qos.IntentCancel))
	}
	j.mu.Unlock()
	a.decideSoon()
	a.spawn(func(ctx context.Context) { a.watch(ctx, j, eng, id) })
}

// watch waits for a container's end and draws the consequences.
func (a *Agent) watch(ctx context.Context, j *job, eng engine, id string) {
	exit, err := eng.Wait(ctx, id)
	if ctx.Err() != nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.live == nil || j.live.container != id {
		return
	}
	if err != nil {
		exit = container.Exit{Code: 255, Unknown: true, Finished: time.Now()}
		j.note(time.Now(), "fault", "its end was not seen: %s", err)
	}
	halted := ""
	if j.live.stopping {
		halted = "stopped before its end"
		if n := len(j.row.Local.Events); n > 0 && j.row.Local.Events[n-1].Kind == "stop" {
			halted = j.row.Local.Events[n-1].Text
		}
	}
	a.conclude(j, exit, halted)
}

// conclude books the end of the present execution and starts what follows. The caller holds j.mu.
func (a *Agent) conclude(j *job, exit container.Exit, halted string) {
	now, st := exit.Finished, j.status()
	if now.IsZero() {
		now = time.Now()
	}
	a.settle(j, exit, now)
	e := ending{Code: exit.Code, Halted: halted}
	c := follow(j.spec(), st, e, j.row.Local, now)
	run := a.book(j, c, exit, halted, now)
	if err := j.enter(c.Phase, now, c.Reason); err != nil {
		a.log.Error("phase", "job", j.spec().Name, "err", err)
	}
	if c.Delete && !j.row.Local.Attached {
		j.row.Local.Duty = dutyDelete
	}
	if !c.Again || halted != "" {
		if t := j.task(st.Execution.Task); t != nil {
			code := exit.Code
			t.Exit, t.Cause = &code, c.Reason
		}
	}
	j.live = nil
	if err := a.save(j); err != nil {
		a.log.Error("end of a run is not on disk yet", "job", j.spec().Name, "err", err)
	}
	a.log.Info("run ended", "job", j.spec().Name, "run", run.Index, "exit", run.ExitCode, "outcome", run.Outcome, "cpu_seconds", run.CPU, "phase", c.Phase)
	a.stewardSoon()
	a.decideSoon()
	if c.Again {
		task := st.Execution.Task
		j.nextTry = now.Add(c.Delay)
		a.spawn(func(ctx context.Context) { a.beginAfter(ctx, j, task, c.Delay) })
	}
	a.spawn(func(ctx context.Context) { a.prune(ctx, j) })
}

// beginAfter starts the next iteration of a series, at once or after a failure's back-off.
func (a *Agent) beginAfter(ctx context.Context, j *job, taskID string, delay time.Duration) {
	if !pause(ctx, delay) {
		return
	}
	for try := 0; ; try++ {
		err := a.begin(j, taskID)
		if err == nil {
			return
		}
		a.log.Error("next iteration", "job", j.spec().Name, "err", err)
		j.mu.Lock()
		given := j.status().Phase != qos.PhaseEnded
		j.mu.Unlock()
		if given || !pause(ctx, backoff(try)) {
			return
		}
	}
}

// settle takes the last reading of the live container into the account. The caller holds j.mu.
func (a *Agent) settle(j *job, exit container.Exit, now time.Time) {
	e := j.status().Execution
	if l := j.live; l != nil {
		a.integrate(j, now)
		if l.reader != nil {
			if own, err := l.reader.Usage(); err == nil {
				e.Account.Observe(1, own)
			}
			_ = l.reader.Close() // read only: nothing to lose
			l.reader = nil
		}
	}
	e.Account.Observe(1, exit.CPU)
}

// book enters an ended run in the tally and in what is known of runs by this name. The caller holds j.mu.
func (a *Agent) book(j *job, c consequence, exit container.Exit, halted string, now time.Time) qos.Run {
	st, e, k := j.status(), j.status().Execution, &j.row.Local.Clock
	run := qos.Run{
		Index: e.Index, Started: e.Started, Ended: now, CPU: e.Account.Consumed().Seconds(), ExitCode: exit.Code, Outcome: c.Outcome,
		MeanCPUs: e.Allocation, MaxCPUs: k.Max, Resizes: k.Resizes,
	}
	if k.Seconds > 0 {
		run.MeanCPUs = k.CPUSeconds / k.Seconds
	}
	if c.Outcome == qos.Failed {
		run.Reason = c.Reason
	}
	st.AppendRun(j.spec().Framework, run)
	l := &j.row.Local
	switch {
	case c.Outcome != qos.Failed:
		l.InARow = 0
	case halted == "":
		l.InARow++
		l.Failures++
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

// learn adds a good run to the model of jobs by this name.
func (a *Agent) learn(j *job, run qos.Run) {
	spec := j.spec()
	m := a.store.model(spec.Framework, spec.Name)
	m.Observe(run.Ended.Sub(run.Started).Seconds(), run.MeanCPUs, run.CPU)
	if err := a.store.putModel(spec.Framework, spec.Name, m); err != nil {
		a.log.Warn("what was learnt of a run is lost", "job", spec.Name, "err", err)
	}
}

// halt stops the job's container in the background; why is kept as the reason of its end. The caller holds j.mu.
func (a *Agent) halt(j *job, why string) {
	l := j.live
	if l == nil || l.stopping {
		return
	}
	l.stopping = true
	j.note(time.Now(), "stop", "%s", why)
	j.touch()
	a.spawn(func(ctx context.Context) {
		if err := a.engine.Stop(ctx, l.container, a.cfg.Run.KillGrace); err != nil && ctx.Err() == nil {
			a.log.Error("stop container", "container", l.container, "err", err)
		}
	})
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
