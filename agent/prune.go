package agent

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"qosctl/container"
)

const (
	// keepContainers is how many of a job's containers are kept, the present one included: their output can still be read.
	keepContainers = 8
	// keepEnded is how long an ended job is kept, keepJobs how many at most.
	keepEnded = 7 * 24 * time.Hour
	keepJobs  = 1000
	// keepUnknown is how long an ended container of a job that the store does not know is kept: its exit status is only there.
	keepUnknown = time.Hour
)

// drop removes a container.
func (a *Agent) drop(ctx context.Context, eng engine, id string) {
	err := eng.Remove(ctx, id)
	if err != nil && !errors.Is(err, container.ErrNotFound) && ctx.Err() == nil {
		a.log.Warn("remove container", "container", id, "err", err)
	}
}

// expire forgets jobs that ended long ago, or that are too many, with all that they left.
func (a *Agent) expire(now time.Time) {
	type old struct {
		job   *job
		ended time.Time
	}
	var list []old
	for _, j := range a.jobs.all() {
		j.mu.Lock()
		if st := j.status(); st.Phase.Terminal() && j.row.Local.Duty == dutyNone && j.live == nil && !j.busy {
			list = append(list, old{j, st.Ended})
		}
		j.mu.Unlock()
	}
	slices.SortFunc(list, func(x, y old) int { return y.ended.Compare(x.ended) })
	for i, o := range list {
		if i >= keepJobs || now.Sub(o.ended) > keepEnded {
			a.forget(o.job)
		}
	}
}

// forget removes a job and its containers from this node.
func (a *Agent) forget(j *job) {
	j.mu.Lock()
	j.gone = true
	j.mu.Unlock()
	if err := a.store.remove(j.spec().ID); err != nil {
		a.log.Warn("forget job", "job", j.spec().Name, "err", err)
		return
	}
	a.jobs.remove(j.spec().ID) // its containers are nobody's now: tidy removes them
}

// orphanLoop removes what nobody looks after.
func (a *Agent) orphanLoop(ctx context.Context) error {
	tick := time.NewTicker(max(a.cfg.Run.DetachGrace/3, time.Second))
	defer tick.Stop()
	since := map[string]time.Time{} // running containers without a job, and when that was first seen
	for {
		a.tidy(ctx, since)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// tidy removes ended containers that nobody can want any more, and stops running ones that no job holds: one of a job that the store
// does not know has the detach grace, in which its stand-in brings the job and gets it back.
func (a *Agent) tidy(ctx context.Context, since map[string]time.Time) {
	list, err := a.engines.containers(ctx)
	if failed := err != nil; failed != a.blind.Swap(failed) && ctx.Err() == nil {
		if failed {
			a.log.Error("an engine does not list its containers; it is asked again", "err", err)
		} else {
			a.log.Info("all engines list their containers again")
		}
	}
	a.expireCollected()
	a.pruneSaved(ctx, time.Now())
	now, orphans := time.Now(), map[string]bool{}
	for _, c := range list {
		held, old := a.wanted(c.Info)
		switch {
		case held:
			continue
		case c.State != container.Running:
			if old || now.Sub(c.Created) > keepUnknown {
				a.drop(ctx, c.engine, c.ID)
			}
			continue
		}
		orphans[c.ID] = true
		if since[c.ID].IsZero() {
			since[c.ID] = now
		}
		if now.Sub(since[c.ID]) > a.cfg.Run.DetachGrace {
			a.log.Warn("stop a container that no job holds", "container", c.ID)
			a.spawn(func(ctx context.Context) { _ = c.engine.Stop(ctx, c.ID, a.cfg.Run.KillGrace) }) // tried again at the next look
		}
	}
	for id := range since {
		if !orphans[id] {
			delete(since, id)
		}
	}
}

// wanted says whether a container is held or kept by its job; old: its job has left it behind.
func (a *Agent) wanted(c container.Info) (held, old bool) {
	j := a.jobs.get(c.Labels[labelJob])
	if j == nil {
		return false, false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	e, n := j.status().Execution, ordinal(c.Labels, labelExecution)
	if e == nil {
		return false, true
	}
	if c.State == container.Running {
		return j.busy || j.live != nil && j.live.container == c.ID, false
	}
	return n > e.Index-keepContainers, true
}

// ordinal reads a number from a label; 0: there is none.
func ordinal(labels map[string]string, key string) int {
	n, err := strconv.Atoi(strings.TrimSpace(labels[key]))
	if err != nil || n < 0 {
		return 0
	}
	return n
}
