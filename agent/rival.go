package agent

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"qosctl/container"
	"qosctl/gossip"
	"qosctl/qos"
)

// A job that a peer has claimed at a higher epoch is given up here. A container of it that still runs goes on until the peer's really
// runs: then it is frozen, checkpointed and ended, and what it has spent goes into the account. It is never just killed. A job that was
// brought to its end here before the peer's runs is taken back, so that the end counts.

// rival is a claim of another node on a job that has, or had, a container here.
type rival struct {
	Record qos.Record
	behind bool // it is known by a broadcast alone: the runs in Record are those that this node knows of
	since  time.Time
	asked  time.Time
	asking bool
}

// superseded notes that another node has claimed a job of this one. The caller holds j.mu.
func (a *Agent) superseded(j *job, r qos.Record) {
	now := time.Now()
	if j.rival == nil {
		j.rival = &rival{since: now}
		j.note(now, "owner", "node %s has claimed it at epoch %d, above this node's %d", r.Status.Owner, r.Status.Epoch, j.status().Epoch)
		a.log.Warn("job claimed by another node", "job", j.spec().Name, "node", r.Status.Owner, "epoch", r.Status.Epoch, "mine", j.status().Epoch)
	}
	j.rival.Record, j.rival.behind = r, true
	if whole, ok := a.cluster.mesh.Whole(r.Spec.ID); ok && whole.Status.Compare(r.Status) >= 0 && !a.owned(whole) {
		j.rival.Record, j.rival.behind = whole, false
	}
	if j.live == nil && !j.busy && !j.doneBefore() {
		a.release(j)
	}
}

// doneBefore says whether this node has brought a job to its end, which a node that has claimed it since has not heard of as it was: not of its
// good end at all, or by a broadcast alone, so that its last run is counted here and nowhere else. As long as the claim is known by a broadcast alone,
// it may be so. The caller holds j.mu.
func (j *job) doneBefore() bool {
	mine, theirs := j.status(), j.rival.Record.Status
	if mine.Execution == nil || theirs.Execution != nil && theirs.Execution.Index > mine.Execution.Index {
		return false
	}
	if !theirs.Phase.Terminal() {
		return mine.Phase == qos.PhaseCompleted && theirs.Intent == qos.IntentNone
	}
	return theirs.Phase == mine.Phase && mine.Ran(mine.Execution.Index) &&
		(j.rival.behind || !theirs.Ran(mine.Execution.Index) && amongst(theirs.Runs, mine.Runs))
}

// amongst says whether the second list of runs has all of the first, as far back as it goes. Parts of a cluster that did not hear each other may
// each have made some.
func amongst(few, all []qos.Run) bool {
	return !slices.ContainsFunc(few, func(r qos.Run) bool {
		return (len(all) == 0 || r.Index >= all[0].Index) &&
			!slices.ContainsFunc(all, func(s qos.Run) bool { return s.Index == r.Index && s.Started.Equal(r.Started) })
	})
}

// release takes a job that another node has out of this one's registry; the account of what ran here goes into the table. The caller
// holds j.mu.
func (a *Agent) release(j *job) {
	a.cluster.mu.Lock()
	delete(a.cluster.handed, j.spec().ID)
	a.cluster.mu.Unlock()
	a.share(j)
	a.owe(j)
	if t := j.openTask(); t != nil {
		code := exitNotStarted
		t.Exit, t.Cause = &code, fmt.Sprintf("node %s goes on with the job", j.rival.Record.Status.Owner)
	}
	j.gone = true
	a.jobs.remove(j.spec().ID)
	if err := a.store.drop(j.spec().ID); err != nil {
		a.log.Warn("forget a job that another node has", "job", j.spec().Name, "err", err) // the next start compares it with the table
	}
	j.touch()
	a.decideSoon()
}

// rivalEvery is how often a node that has claimed a job is asked whether it runs there.
const rivalEvery = time.Second

// confrontRivals looks at jobs that run here and were claimed elsewhere.
func (a *Agent) confrontRivals(now time.Time) {
	for _, j := range a.jobs.all() {
		j.mu.Lock()
		v := j.rival
		ended := v != nil && j.live == nil && !j.busy
		done := ended && j.doneBefore() && !a.cluster.mesh.Removed(j.spec().ID)
		switch {
		case v == nil || j.gone:
		case ended && !done:
			a.release(j)
		case j.live == nil && !done || j.live != nil && j.live.stopping || v.asking || now.Sub(v.asked) < rivalEvery:
		default:
			v.asking, v.asked = true, now
			owner, index := v.Record, j.status().Execution.Index
			a.spawn(func(ctx context.Context) { a.confront(ctx, j, owner, index) })
		}
		j.mu.Unlock()
	}
}

// bearing is what a node says of a job that it claims.
type bearing struct {
	Owner  bool   `json:"owner"`
	Epoch  uint64 `json:"epoch"`
	Runs   bool   `json:"runs"`   // a container of it
	Over   bool   `json:"over"`   // the job's life has ended
	Beyond bool   `json:"beyond"` // a later execution has begun
}

// confront asks the node that has claimed a job of this one whether it really runs there, and draws the conclusion.
func (a *Agent) confront(ctx context.Context, j *job, r qos.Record, execution int) {
	owner := r.Status.Owner
	if from, behind := a.cluster.mesh.Behind(r.Spec.ID); behind {
		if m, ok := a.cluster.member(from); ok && m.State == gossip.Alive {
			_ = a.cluster.mesh.Pull(ctx, from, r.Spec.ID) // else it comes by itself
		}
	}
	var b bearing
	err := fmt.Errorf("node %s is not there", owner)
	if m, ok := a.cluster.member(owner); ok && m.State == gossip.Alive {
		path := fmt.Sprintf("/peer/v1/jobs/%s/bearing?execution=%d", url.PathEscape(j.spec().ID), execution)
		err = a.askPeer(ctx, m, http.MethodGet, path, nil, &b)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.rival == nil || j.gone {
		return
	}
	j.rival.asking = false
	done := j.live == nil && j.doneBefore()
	ended := done && j.rival.Record.Status.Phase.Terminal() // by both
	switch {
	case err != nil && ended && a.ownerless(j.rival.Record): // it has no more to tell, and no steward takes over what has ended
		a.reclaim(ctx, j, j.rival.Record)
	case err != nil && a.bereft(j.rival.Record):
		a.outlive(ctx, j)
	case err != nil || !b.Owner:
		return // asked again; whoever holds it now tells by gossip
	case b.Runs || b.Beyond, b.Over && !ended:
		a.fenceOff(j, owner, b)
	case ended && j.rival.behind:
		return // asked again: what its owner has counted stands in the row that is still to come
	case done:
		a.reclaim(ctx, j, r)
	case time.Since(j.rival.since) > a.cfg.Cluster.Grace && a.stateOf(owner, time.Now()) == nodeAlive:
		a.reclaim(ctx, j, r)
	}
}

// outlive settles a job whose claimer is gone, and whose steward this node is: nobody else takes it over while a container of it is here.
// The caller holds j.mu.
func (a *Agent) outlive(ctx context.Context, j *job) {
	r, mine := j.rival.Record, j.status().Execution.Index
	is := r.Status
	b := bearing{Epoch: is.Epoch, Over: is.Phase.Terminal(), Runs: is.Phase == qos.PhaseRunning, Beyond: is.Execution != nil && is.Execution.Index > mine}
	if b.Over || b.Runs || b.Beyond {
		a.fenceOff(j, is.Owner, b) // what it did is the newer; it is taken over when the job is released here
		return
	}
	a.reclaim(ctx, j, r)
}

// fenceOff puts the container of a job aside that runs on another node. The caller holds j.mu.
func (a *Agent) fenceOff(j *job, owner string, b bearing) {
	l := j.live
	if l == nil && !j.busy {
		a.release(j)
		return
	}
	if l == nil || l.stopping || l.saving {
		return
	}
	why := fmt.Sprintf("node %s runs it at epoch %d", owner, b.Epoch)
	if b.Over || b.Beyond {
		why = fmt.Sprintf("node %s has brought it to its end", owner)
	}
	a.metrics.fenced.Inc()
	if a.keeps(j) && l.failed < stopTries {
		if err := a.suspend(j, stopOrder{Why: why, Signal: 9}); err == nil {
			return
		}
	}
	a.halt(j, why)
}

// reclaim takes a job back whose container runs here while the node that has claimed it has not got it running. The caller holds j.mu,
// which is given up while the fence is asked.
func (a *Agent) reclaim(ctx context.Context, j *job, r qos.Record) {
	v := j.rival
	v.asking = true
	j.mu.Unlock()
	epoch, err := a.claimNext(ctx, r)
	j.mu.Lock()
	v.asking = false
	if is := &v.Record.Status; err != nil || j.gone || j.rival != v || is.Epoch != r.Status.Epoch || is.Owner != r.Status.Owner {
		return // tried again
	}
	st := j.status()
	st.Epoch, st.Seq, st.Owner = epoch, 0, a.node
	if r.Status.Intent == qos.IntentCancel {
		st.Intent = qos.IntentCancel
	}
	if r.Status.Steward.Compare(st.Steward) > 0 {
		st.Steward = r.Status.Steward.Clone()
	}
	if st.Phase.Terminal() && !j.steward().Attached {
		j.steward().Pending = qos.ActDelete // whoever is asked to, once more
	}
	j.rival = nil
	j.note(time.Now(), "owner", "node %s had claimed it and does not run it: it goes on here", r.Status.Owner)
	a.log.Warn("job taken back", "job", j.spec().Name, "from", r.Status.Owner, "epoch", st.Epoch)
	_ = a.save(j) // retried by the sweep
	if st.Intent == qos.IntentCancel {
		a.obeyCancel(j)
	}
}

// getBearing says how a job stands that this node may have.
func (a *Agent) getBearing(id string, execution int) bearing {
	j := a.jobs.get(id)
	if j == nil {
		return bearing{}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	st := j.status()
	b := bearing{Owner: st.Owner == a.node && j.rival == nil, Epoch: st.Epoch, Over: st.Phase.Terminal()}
	b.Runs = j.live != nil && !j.live.stopping
	b.Beyond = st.Execution != nil && st.Execution.Index > execution && execution > 0
	return b
}

// gaveUp books the end of a container whose job another node has. The caller holds j.mu.
func (a *Agent) gaveUp(j *job, exit container.Exit, why string) {
	now := exit.Finished
	if now.IsZero() {
		now = time.Now()
	}
	a.settle(j, exit, now)
	if t := j.task(j.status().Execution.Task); t != nil && t.Exit == nil {
		code := exit.Code
		t.Exit, t.Cause = &code, why
	}
	j.live, j.row.Local.Stop = nil, nil
	a.release(j)
}
