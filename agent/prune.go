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
)

// prune removes a job's oldest ended containers.
func (a *Agent) prune(ctx context.Context, j *job) {
	j.mu.Lock()
	e, id := j.status().Execution, j.spec().ID
	j.mu.Unlock()
	if e == nil || j.row.Local.Adopted {
		return
	}
	// Only the one that has just fallen out: a crash in between is made up for at the next start (recover).
	a.drop(ctx, containerID(id, e.Index-keepContainers))
}

func (a *Agent) drop(ctx context.Context, id string) {
	err := a.engine.Remove(ctx, id)
	if err != nil && !errors.Is(err, container.ErrNotFound) && ctx.Err() == nil {
		a.log.Warn("remove container", "container", id, "err", err)
	}
}

// expire forgets jobs that ended long ago, or that are too many, with all that they left.
func (a *Agent) expire(ctx context.Context, now time.Time) {
	var ended []*job
	for _, j := range a.jobs.all() {
		j.mu.Lock()
		if j.status().Phase.Terminal() && j.row.Local.Duty == dutyNone && j.live == nil {
			ended = append(ended, j)
		}
		j.mu.Unlock()
	}
	slices.SortFunc(ended, func(x, y *job) int { return y.status().Ended.Compare(x.status().Ended) })
	for i, j := range ended {
		if i >= keepJobs || now.Sub(j.status().Ended) > keepEnded {
			a.forget(ctx, j)
		}
	}
}

// forget removes a job and its containers from this node.
func (a *Agent) forget(ctx context.Context, j *job) {
	list, err := a.engine.List(ctx)
	if err != nil {
		a.log.Warn("forget job", "job", j.spec().Name, "err", err)
		return
	}
	for _, c := range list {
		if c.Labels[labelJob] == j.spec().ID {
			a.drop(ctx, c.ID)
		}
	}
	if err := a.store.remove(j.spec().ID); err != nil {
		a.log.Warn("forget job", "job", j.spec().Name, "err", err)
		return
	}
	a.jobs.remove(j.spec().ID)
}

// ordinal reads a number from a label; 0: there is none.
func ordinal(labels map[string]string, key string) int {
	n, err := strconv.Atoi(strings.TrimSpace(labels[key]))
	if err != nil || n < 0 {
		return 0
	}
	return n
}
