package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"qosctl/framework"
	"qosctl/gossip"
	"qosctl/qos"
)

// What a node owned that is gone is looked after by its steward: the live member that rendezvous hashing picks. Nothing is taken over
// before the grace, while the table is not settled, or by a node that sees less than half of those it knew. A job that ran there is
// taken only when its framework, too, has given its task up; Marathon never does that by itself, so the task is expunged.

// expunger is a port of a framework that must be told to give a lost task up.
type expunger interface {
	// Expunge makes the framework forget a task that it can't reach, and launch another.
	Expunge(ctx context.Context, name, task string) error
}

// takeOverFrom looks for jobs of nodes that are gone and whose steward this node is.
func (a *Agent) takeOverFrom(ctx context.Context, now time.Time) {
	m := a.cluster.mesh
	if !a.settled.Load() || !m.Settled() || !m.Quorate() || ctx.Err() != nil || now.Before(a.cluster.nextLook) {
		return
	}
	defer func() { a.cluster.nextLook = now.Add(lookShare * time.Since(now)) }() // of ten thousand jobs a look takes its time
	owners := map[string]nodeState{}
	for _, r := range m.All() {
		owner, id := r.Status.Owner, r.Spec.ID
		if owner == a.node {
			a.recallForgotten(r, now)
			continue
		}
		if r.Status.Phase.Terminal() && r.Status.Steward.Pending == qos.ActNone && !a.endUnknown(r) {
			if ended := r.Status.Ended; !ended.IsZero() && now.Sub(ended) > keepEnded && m.Steward(id) == a.node && a.stateOf(owner, now) == nodeGone {
				a.unshare(id) // its owner can't forget it
			}
			continue
		}
		if _, ok := owners[owner]; !ok {
			owners[owner] = a.stateOf(owner, now)
		}
		if owners[owner] != nodeGone || m.Steward(id) != a.node || a.jobs.get(id) != nil || a.heldJob(r) != "" || !a.cluster.turn(id) {
			continue
		}
		a.spawn(func(ctx context.Context) {
			defer a.cluster.turned(id)
			if err := a.succeed(ctx, r); err != nil && ctx.Err() == nil {
				a.log.Warn("take over", "job", r.Spec.Name, "from", owner, "err", err) // looked at again
			}
		})
	}
}

// endUnknown says whether a job has ended by a broadcast alone: what is still to be done then stands in a row that has not come.
func (a *Agent) endUnknown(r qos.Record) bool {
	if !r.Status.Phase.Terminal() || !r.Status.Ended.IsZero() {
		return false
	}
	_, behind := a.cluster.mesh.Behind(r.Spec.ID)
	return behind
}

// bereft says whether what a take-over rests on still holds: its questions take their time, in which an owner may have come back, or this
// node may have been cut off, or stopped.
func (a *Agent) bereft(r qos.Record) bool {
	return a.ownerless(r) && a.cluster.mesh.Steward(r.Spec.ID) == a.node
}

// ownerless says whether a job's owner is gone by what this node can tell.
func (a *Agent) ownerless(r qos.Record) bool {
	m := a.cluster.mesh
	return m.Settled() && m.Quorate() && a.stateOf(r.Status.Owner, time.Now()) == nodeGone
}

// lookShare bounds what looks at the whole table take of a CPU: one part in so many.
const lookShare = 50

// turn says that a job is being taken over, unless it is already.
func (c *cluster) turn(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.turning[id] {
		return false
	}
	c.turning[id] = true
	return true
}

func (c *cluster) turned(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.turning, id)
}

// succeed takes a job over whose owner is gone, as soon as its framework agrees that it is.
func (a *Agent) succeed(ctx context.Context, r qos.Record) error {
	runs := r.Status.Phase == qos.PhaseRunning
	if from, behind := a.cluster.mesh.Behind(r.Spec.ID); behind {
		over := r.Status.Phase.Terminal()
		if m, ok := a.cluster.member(from); ok && m.State == gossip.Alive {
			_ = a.cluster.mesh.Pull(ctx, from, r.Spec.ID) // else what the replicas have must do
		}
		r = a.askReplicas(ctx, r)
		if st := r.Status; st.Phase.Terminal() && !st.Ended.IsZero() && st.Steward.Pending == qos.ActNone {
			return nil // its owner has brought it to its end
		}
		runs = !over && (runs || r.Status.Phase == qos.PhaseRunning)
	}
	if runs && r.Status.Intent == qos.IntentNone {
		lost, err := a.lost(ctx, r)
		if err != nil || !lost {
			return err
		}
	}
	h := handover{Record: a.askReplicas(ctx, r)}
	if h.Record.Status.Saved == nil { // else who restores it asks: it may be the first that nobody was told of, and the run not lost
		a.hearSaved(ctx, &h.Record)
	}
	if !a.bereft(h.Record) {
		return nil // a replica knew better, or the owner is back
	}
	_, err := a.take(ctx, h, fmt.Sprintf("node %s is gone, and this one is its steward", r.Status.Owner))
	a.stewardSoon()
	return err
}

// deletedTime is how long an app must be gone from its framework until the job of a node that is gone counts as deleted by somebody else.
// Most likely the owner has brought it to its end and has not been heard yet, and nothing hangs on it: nothing is launched any more.
const deletedTime = 10 * time.Minute

// freshLook is how old a framework's answer may be that a task is expunged on: it may have come while this process was stopped.
const freshLook = 10 * time.Second

// missedFor is how long a job has been looked for in vain.
func (c *cluster) missedFor(id string, now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.missed) > maxOwed {
		clear(c.missed)
	}
	if c.missed[id].IsZero() {
		c.missed[id] = now
	}
	return now.Sub(c.missed[id])
}

// found notes that a job is there after all.
func (c *cluster) found(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.missed, id)
}

// lost says whether a job's framework has given up the task that ran on a node which is gone. Marathon is told to, once it has lost sight
// of it as well.
func (a *Agent) lost(ctx context.Context, r qos.Record) (bool, error) {
	p := a.ports[r.Spec.Framework]
	if p == nil {
		return false, nil
	}
	asked := time.Now()
	s, err := p.Look(ctx, r.Spec)
	switch {
	case time.Since(asked) > freshLook || !a.bereft(r):
		return false, nil // looked at again
	case errors.Is(err, framework.ErrNotFound):
		return a.cluster.missedFor(r.Spec.ID, time.Now()) > deletedTime, nil // then the steward's look draws the conclusion
	case err != nil:
		return false, err
	}
	a.cluster.found(r.Spec.ID)
	e, can := p.(expunger)
	if !can {
		return !s.Active, nil
	}
	task := runningTask(r, s)
	if !slices.Contains(s.Tasks, task) {
		return true, nil // a later one that is lost, too, is given up by whoever has the job then
	}
	if !slices.Contains(s.Lost, task) {
		return false, nil // the framework sees it run: its agent alone is away
	}
	if is, ok := a.cluster.mesh.Get(r.Spec.ID); !ok || is.Status.Compare(r.Status) != 0 {
		return false, nil // somebody has written it meanwhile
	} else if r = is; r.Status.Steward.Expunged != task {
		r.Status.Steward = r.Status.Steward.Clone()
		r.Status.Steward.Duty++
		r.Status.Steward.By, r.Status.Steward.Expunged = a.node, task
		if _, err := a.cluster.mesh.Put(r); err != nil { // the act is numbered before it is done
			return false, err
		}
	}
	a.log.Warn("expunge a lost task", "job", r.Spec.Name, "task", task, "node", r.Status.Owner)
	if err := e.Expunge(ctx, r.Spec.Name, task); err != nil && !errors.Is(err, framework.ErrNotFound) {
		return false, err
	}
	return true, nil
}

// runningTask is the task that ran on a node which is gone. If the row of what ran there has not come, the framework's only task must be it.
func runningTask(r qos.Record, s sight) string {
	if e := r.Status.Execution; e != nil && r.Status.Phase == qos.PhaseRunning {
		return e.Task
	}
	if len(s.Tasks) == 0 {
		return ""
	}
	if i := slices.IndexFunc(s.Tasks, func(t string) bool { return !slices.Contains(s.Lost, t) }); i >= 0 {
		return s.Tasks[i]
	}
	return s.Tasks[0]
}
