package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"qosctl/gossip/zkfence"
	"qosctl/qos"
)

// fence makes a claim exclusive where gossip alone only makes it likely: zkfence.Fence.
type fence interface {
	// Claim takes an epoch of a job for a node. That another node has it, or a later one, is a *zkfence.FencedError.
	Claim(ctx context.Context, job string, epoch uint64, node string) error
	// Forget removes what is kept of a job whose life has ended.
	Forget(ctx context.Context, job string) error
	Close() error
}

// openFence opens what the configuration names; nil: none.
func openFence(c ClusterConfig, log *slog.Logger) (fence, error) {
	if c.Fence != "zookeeper" {
		return nil, nil //nolint:nilnil // none is configured
	}
	return zkfence.New(zkfence.Options{Servers: c.ZooKeeper, Path: c.ZooKeeperPath, Logger: log})
}

// claimNext asks the fence for the next epoch of a job, and returns it: above one that was claimed there and came to nothing.
func (a *Agent) claimNext(ctx context.Context, r qos.Record) (epoch uint64, err error) {
	epoch = r.Status.Epoch + 1
	if a.cluster.fence == nil {
		return epoch, nil
	}
	err = a.claimEpoch(ctx, r.Spec.ID, epoch)
	if had, fenced := errors.AsType[*zkfence.FencedError](err); fenced {
		switch {
		case had.Node == a.node: // an answer that was late, or a claim that was not written down
			epoch = had.Epoch
			err = a.claimEpoch(ctx, r.Spec.ID, epoch)
		case a.cameToNothing(ctx, r.Spec.ID, had):
			a.log.Warn("a claim at the fence came to nothing", "job", r.Spec.Name, "node", had.Node, "epoch", had.Epoch)
			epoch = had.Epoch + 1
			err = a.claimEpoch(ctx, r.Spec.ID, epoch)
		}
	}
	if err != nil {
		return 0, refuse(codeConflict, "the fence does not let node %s have the job: %s; ask again", a.node, err)
	}
	return epoch, nil
}

func (a *Agent) claimEpoch(ctx context.Context, id string, epoch uint64) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return a.cluster.fence.Claim(ctx, id, epoch, a.node)
}

// barred is a claim at the fence that keeps this node from a job, and since when.
type barred struct {
	node  string
	epoch uint64
	since time.Time
}

// barredFor is how long a claim at the fence must have stood of which its node knows nothing: a claim is written down within seconds.
const barredFor = 10 * time.Second

// cameToNothing says whether a claim at the fence was never written down: its node is gone, or has known nothing of it for a while. Should
// that node write it down after all, the fence keeps it from starting anything.
func (a *Agent) cameToNothing(ctx context.Context, id string, had *zkfence.FencedError) bool {
	long := a.cluster.barredSince(id, had, time.Now()) >= barredFor
	switch a.stateOf(had.Node, time.Now()) {
	case nodeGone:
		return a.cluster.mesh.Quorate()
	case nodeSilent:
		return false
	}
	to, ok := a.cluster.member(had.Node)
	if !ok {
		return false
	}
	var b bearing
	if err := a.askPeer(ctx, to, http.MethodGet, "/peer/v1/jobs/"+url.PathEscape(id)+"/bearing", nil, &b); err != nil {
		return false
	}
	return long && (!b.Owner || b.Epoch < had.Epoch)
}

// barredSince is for how long one and the same claim has kept this node from a job.
func (c *cluster) barredSince(id string, had *zkfence.FencedError, now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.barred) > maxOwed {
		clear(c.barred)
	}
	if b, ok := c.barred[id]; !ok || b.node != had.Node || b.epoch != had.Epoch {
		c.barred[id] = barred{had.Node, had.Epoch, now}
	}
	return now.Sub(c.barred[id].since)
}

// passFence asks the fence for the epoch of a container that is about to be started; false: another node has the job. A fence that does
// not answer is waited for: without it nobody may start anything.
func (a *Agent) passFence(ctx context.Context, j *job) bool {
	if a.cluster == nil || a.cluster.fence == nil {
		return true
	}
	for try := 0; ctx.Err() == nil; try++ {
		j.mu.Lock()
		epoch := j.status().Epoch
		j.mu.Unlock()
		within, cancel := context.WithTimeout(ctx, askTime)
		err := a.cluster.fence.Claim(within, j.spec().ID, epoch, a.node)
		cancel()
		switch {
		case err == nil:
			return true
		case errors.Is(err, zkfence.ErrFenced):
			a.giveBack(j, fmt.Sprintf("the fence does not let node %s start it: %s", a.node, err), exitElsewhere)
			return false
		}
		a.log.Error("ask the fence", "job", j.spec().Name, "err", err)
		if !a.awaited(j) {
			a.giveBack(j, fmt.Sprintf("the fence does not answer: %s", err), exitElsewhere)
			return false
		}
		pause(ctx, backoff(try))
	}
	return false
}

// fenceTime bounds the removal of what the fence has of an ended job.
const fenceTime = 10 * time.Second

// forgetFence removes what the fence has of a job that is forgotten.
func (a *Agent) forgetFence(id string) {
	if a.cluster == nil || a.cluster.fence == nil {
		return
	}
	a.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, fenceTime)
		defer cancel()
		if err := a.cluster.fence.Forget(ctx, id); err != nil {
			a.log.Warn("forget a job at the fence", "job", id, "err", err) // a znode of some bytes stays
		}
	})
}
