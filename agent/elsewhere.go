package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"qosctl/ckpt"
	"qosctl/container"
	"qosctl/gossip"
	"qosctl/qos"
)

// What a node lacks is nothing against a checkpoint: the claim is given back, as long as another node may do better.

const (
	// shortTime is how long a node tries to restore what it lacks something for, before it leaves that to another.
	shortTime = time.Minute
	// maxElsewhere bounds how often in a row a job is passed on.
	maxElsewhere = 10
)

// shortage is since when a node lacks what a restore needs; zero: it does not.
type shortage struct {
	since time.Time
	told  bool // that a seal is waited for
}

func (s shortage) over() bool { return !s.since.IsZero() && time.Since(s.since) > shortTime }

// lacking says whether an error is of what this node lacks at this moment. Without the image or the space a start anew would not do either.
func lacking(err error) bool {
	return errors.Is(err, ckpt.ErrSpace) || errors.Is(err, ckpt.ErrTime) || errors.Is(err, container.ErrNoImage)
}

// shortOf notes what is lacking, and says whether that has been so for long enough.
func (a *Agent) shortOf(j *job, s *shortage, err error) bool {
	switch {
	case errors.Is(err, errUnsealed) && !s.told:
		s.told, s.since = true, time.Time{}
		j.mu.Lock()
		j.note(time.Now(), "fault", "it waits for what it goes on from: %s", err)
		j.mu.Unlock()
	case !lacking(err):
		s.since = time.Time{}
	case s.since.IsZero():
		s.since = time.Now()
		j.mu.Lock()
		j.note(s.since, "fault", "it can't be restored on node %s now, and is tried again: %s", a.node, err)
		j.mu.Unlock()
	}
	return s.over()
}

// passOn gives the claim of a job back that can't be restored here, if another node that lives may do it.
func (a *Agent) passOn(j *job, why error) bool {
	if a.cluster == nil {
		return false
	}
	class, marks := a.engines.keeper.Report().Class.Digest(), a.marks()
	if !slices.ContainsFunc(a.alive(), func(m gossip.Member) bool {
		return m.Meta.Checkpoints && m.Meta.Class == class && !m.Meta.Draining && marks[drainKey+m.Name] == ""
	}) {
		return false
	}
	j.mu.Lock()
	l := &j.row.Local
	bound := l.Elsewhere >= maxElsewhere
	if !bound {
		l.Elsewhere++
		if l.Move != nil && l.Move.State == moveSent {
			a.endMove(j, "its task came to node %s, which can't restore the job now", a.node)
		}
	}
	j.mu.Unlock()
	if bound {
		return false
	}
	a.giveBack(j, fmt.Sprintf("its checkpoint can't be restored on node %s, another may: %s", a.node, why), exitElsewhere)
	return true
}

// passedOn says whether a job waits for a task elsewhere, as it could not be restored here. The caller holds j.mu.
func (j *job) passedOn() bool {
	return j.row.Local.Elsewhere > 0 && j.status().Phase == qos.PhaseSuspended && j.openTask() == nil
}

// goBack restores a checkpoint into the container that it was taken of.
func (a *Agent) goBack(ctx context.Context, j *job, m ckpt.Manifest) (done bool, err error) {
	r, err := a.engines.keeper.Back(ctx, ckpt.Ref{Job: m.Job, Sequence: m.Sequence})
	if err == nil {
		a.restored(ctx, j, m, r, m.Container.ID)
		return true, nil
	}
	if ctx.Err() == nil && hopeless(err) {
		a.restoreFailed(j, m, fmt.Errorf("into its old container: %w", err))
	}
	return false, err
}

// hopeless says whether the way back is barred for good.
func hopeless(err error) bool {
	return definite(err) || errors.Is(err, container.ErrNotFound) || errors.Is(err, ckpt.ErrRefused)
}

// definite says whether an error is about a checkpoint, or about this node and it, not about the node at this moment.
func definite(err error) bool {
	return errors.Is(err, ckpt.ErrRestore) || errors.Is(err, ckpt.ErrDamaged) || errors.Is(err, ckpt.ErrNone)
}
