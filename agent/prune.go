package agent

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"qosctl/container"
	"qosctl/qos"
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

// expire forgets jobs that ended long ago, or that are too many, with all that they left. A job that is forgotten is so in the whole cluster,
// for good: while this node may not have heard yet that one goes on elsewhere, none is.
func (a *Agent) expire(now time.Time) {
	if a.cluster != nil && !a.cluster.mesh.Settled() {
		return
	}
	type old struct {
		job   *job
		ended time.Time
	}
	var list []old
	for _, j := range a.jobs.all() {
		j.mu.Lock()
		if st := j.status(); st.Phase.Terminal() && j.steward().Pending == qos.ActNone && j.live == nil && !j.busy {
			list = append(list, old{j, st.Ended})
		}
		j.mu.Unlock()
	}
	slices.SortFunc(list, func(x, y old) int { return y.ended.Compare(x.ended) })
	for i, o := range list {
		if i < keepJobs && now.Sub(o.ended) <= keepEnded {
			continue
		}
		o.job.mu.Lock()
		contested := a.contested(o.job)
		o.job.mu.Unlock()
		if !contested {
			a.forget(o.job)
		}
	}
}

// contested says whether another node has claimed a job of this one, whether or not that was looked into. The caller holds j.mu.
func (a *Agent) contested(j *job) bool {
	if j.rival != nil {
		return true
	}
	if a.cluster == nil {
		return false
	}
	r, known := a.cluster.mesh.Get(j.spec().ID)
	return known && !a.owned(r) && r.Status.Newer(*j.status())
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
	a.unshare(j.spec().ID)
}

// orphanLoop removes what nobody looks after.
func (a *Agent) orphanLoop(ctx context.Context) error {
	tick := time.NewTicker(max(a.cfg.Run.DetachGrace/3, time.Second))
	defer tick.Stop()
	left := map[string]*orphan{} // running containers without a job
	for {
		a.tidy(ctx, left)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// tidy removes ended containers that nobody can want any more, and puts running ones aside that no job holds: one of a job that the store
// does not know has the detach grace, in which its stand-in brings the job and gets it back.
func (a *Agent) tidy(ctx context.Context, left map[string]*orphan) {
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
			a.oweLeft(c.Info, list)
			if a.jobs.get(c.Labels[labelJob]) == nil && a.keptElsewhere(c.Labels[labelJob]) > 0 {
				if err := a.collectOne(ctx, c.engine, c.ID); err == nil {
					continue // its output can be read on, by the node that has the job
				}
			}
			if old || now.Sub(c.Created) > keepUnknown {
				a.drop(ctx, c.engine, c.ID)
			}
			continue
		}
		orphans[c.ID] = true
		o := left[c.ID]
		if o == nil {
			o = &orphan{since: now}
			left[c.ID] = o
		}
		if now.Sub(o.since) > a.cfg.Run.DetachGrace && o.begin(now) {
			a.log.Warn("put a container aside that no job holds", "container", c.ID)
			a.spawn(func(ctx context.Context) { a.putAsideLeft(ctx, c, list, o) })
		}
	}
	for id := range left {
		if !orphans[id] {
			delete(left, id)
		}
	}
}

// wanted says whether a container is held or kept by its job; old: its job has left it behind.
func (a *Agent) wanted(c container.Info) (held, old bool) {
	j := a.jobs.get(c.Labels[labelJob])
	if j == nil {
		return a.leftBehind(c)
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

// leftBehind says of the container of a job that another node has whether it is still the way back: until the job's present container,
// elsewhere, is a later one.
func (a *Agent) leftBehind(c container.Info) (held, old bool) {
	if a.cluster == nil {
		return false, false
	}
	r, ok := a.cluster.mesh.Get(c.Labels[labelJob])
	if !ok || c.State == container.Running {
		return false, false
	}
	e := r.Status.Execution
	wayBack := e != nil && !r.Status.Phase.Terminal() && e.Index == ordinal(c.Labels, labelExecution) && e.Account.Live.N <= ordinal(c.Labels, labelIncarnation)
	return wayBack, !wayBack
}

// keptElsewhere is a job's present execution, if another node has the job and it has not ended; 0: it is none of the cluster's.
func (a *Agent) keptElsewhere(id string) int {
	if a.cluster == nil {
		return 0
	}
	r, ok := a.cluster.mesh.Get(id)
	if !ok || r.Status.Phase.Terminal() || r.Status.Execution == nil {
		return 0
	}
	return r.Status.Execution.Index
}

// ordinal reads a number from a label; 0: there is none.
func ordinal(labels map[string]string, key string) int {
	n, err := strconv.Atoi(strings.TrimSpace(labels[key]))
	if err != nil || n < 0 {
		return 0
	}
	return n
}
