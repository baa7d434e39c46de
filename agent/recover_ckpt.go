package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"qosctl/ckpt"
)

// afterRecovery waits until it is known what became of the checkpoints that the agent before this one had begun; true: the job's
// container is to be looked at.
func (a *Agent) afterRecovery(ctx context.Context, j *job) bool {
	select {
	case <-a.recovered:
	case <-ctx.Done():
		return false
	}
	found := a.finished
	if l := a.late[j.spec().ID]; l != nil {
		select {
		case <-l.done:
		case <-ctx.Done():
			return false
		}
		found = slices.Concat(found, l.found)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.status().Execution
	for _, m := range found {
		if m.Job == j.spec().ID && m.Execution == e.Index && m.Incarnation == e.Account.Live.N && !m.Kept && j.row.Local.Restoring == 0 {
			j.busy = false
			a.suspended(j, m)
			return false
		}
	}
	return true
}

// late is what is found out of a job's checkpoints that could not be taken up at once. The job stays busy meanwhile; all others go on.
type late struct {
	refs  []ckpt.Ref      // all of them; it does not change
	found []ckpt.Manifest // complete when done is closed
	done  chan struct{}
}

// postpone has the checkpoints that could not be taken up tried again in the background.
func (a *Agent) postpone(failed ckpt.RecoverError) {
	a.late = map[string]*late{}
	for r := range failed {
		if a.late[r.Job] == nil {
			a.late[r.Job] = &late{done: make(chan struct{})}
		}
		a.late[r.Job].refs = append(a.late[r.Job].refs, r)
	}
	for _, l := range a.late {
		a.spawn(func(ctx context.Context) { a.takeUpLate(ctx, l) })
	}
}

func (a *Agent) takeUpLate(ctx context.Context, l *late) {
	refs := l.refs
	for try := 0; len(refs) > 0; {
		if !pause(ctx, backoff(try)) {
			return
		}
		m, err := a.engines.keeper.TakeUp(ctx, refs[0])
		if err != nil {
			try++
			a.log.Error("take up a checkpoint that was under way", "err", err)
			continue
		}
		if refs = refs[1:]; m.Sequence > 0 {
			l.found = append(l.found, m)
			a.sealFound(m)
		}
	}
	close(l.done)
}

// recoverCheckpoints finds out what became of checkpoints that were under way, then whether this node can checkpoint at all.
func (a *Agent) recoverCheckpoints(ctx context.Context) {
	k := a.engines.keeper
	if k == nil {
		close(a.recovered)
		close(a.tested)
		return
	}
	for try := 0; ctx.Err() == nil; try++ {
		list, err := k.Recover(ctx)
		if err == nil {
			a.finished = list
			break
		}
		a.log.Error("take up checkpoints that were under way", "err", err)
		if failed, ok := errors.AsType[ckpt.RecoverError](err); ok && ctx.Err() == nil {
			a.finished = list
			a.postpone(failed)
			break
		}
		pause(ctx, backoff(try))
	}
	if ctx.Err() != nil {
		return
	}
	close(a.recovered)
	test, stop := context.WithTimeout(ctx, testTime)
	defer stop()
	report := k.Test(test)
	if ctx.Err() != nil {
		return
	}
	for _, c := range report.Checks {
		if !c.OK {
			a.log.Warn("self-test of checkpoints", "check", c.Name, "finding", c.Text, "remedy", c.Remedy)
		}
	}
	a.log.Info("checkpoints", "driver", report.Driver)
	close(a.tested)
	a.spawn(a.testAgain)
	a.sealLeft(ctx)
}

// A self-test that no driver has passed is repeated, at first after testEvery, then ever later: what was wrong may have passed.
const (
	testEvery = time.Minute
	testMost  = time.Hour
)

// testAgain repeats the self-test while this node has no driver. It costs nothing while Docker does not answer: that is asked each time.
func (a *Agent) testAgain(ctx context.Context) {
	if a.cfg.Checkpoint.Driver == "none" {
		return
	}
	k, wait := a.engines.keeper, testEvery
	for pause(ctx, wait) {
		if a.checkpoints() {
			wait = testEvery
			continue
		}
		test, stop := context.WithTimeout(ctx, testTime)
		report := k.Test(test)
		stop()
		answers := !slices.ContainsFunc(report.Checks, func(c ckpt.Check) bool { return c.Name == "docker" && !c.OK })
		if report.Driver != "" {
			a.log.Info("checkpoints", "driver", report.Driver)
		} else if answers {
			wait = min(2*wait, testMost)
		}
	}
}
