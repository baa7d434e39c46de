package agent

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"qosctl/gossip/zkfence"
)

// simFence is ZooKeeper in memory.
type simFence struct {
	mu  sync.Mutex
	had map[string]zkfence.FencedError // by job
}

// Claim is fence's.
func (f *simFence) Claim(_ context.Context, job string, epoch uint64, node string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	had, ok := f.had[job]
	if ok && had.Epoch >= epoch && (had.Epoch != epoch || had.Node != node) {
		had.Wanted = epoch
		return &had
	}
	f.had[job] = zkfence.FencedError{Node: node, Epoch: epoch}
	return nil
}

// Forget is fence's.
func (f *simFence) Forget(_ context.Context, job string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.had, job)
	return nil
}

// Close is fence's.
func (*simFence) Close() error { return nil }

// fencedScene is a scene of a cluster with a fence.
func fencedScene(t *testing.T, act func(s *stage)) {
	t.Helper()
	t.Parallel()
	simulate(t, 1, 5, nil, func(w *world) {
		w.zk = &simFence{had: map[string]zkfence.FencedError{}}
		for _, n := range w.nodes {
			n.kill()
			n.boot()
		}
		if !w.together(time.Minute) {
			return
		}
		s := &stage{world: w, job: w.submit(w.nodes[0], simID(0), "/j0", "burn 100000s", 0.5)}
		if w.until(30*time.Second, "it runs", func() bool { return s.look(1) }) {
			pause(context.Background(), 50*time.Second)
			act(s)
		}
	})
}

// claimInVain claims the job's next epoch at the fence for a node that then knows nothing of it: the answer was late, or it died.
func (s *stage) claimInVain(n *simNode) {
	epoch := s.status(n).Epoch + 1
	err := s.zk.Claim(context.Background(), s.job.id, epoch, n.name)
	s.want(err == nil, "claim: %v", err)
}

// other is a node that is neither the job's owner nor one of some.
func (s *stage) other(but ...*simNode) *simNode {
	for _, n := range s.nodes {
		if n != s.owner && !slices.Contains(but, n) {
			return n
		}
	}
	return nil
}

func TestJepsenAClaimAtTheFenceThatCameToNothingBarsNobodyForEver(t *testing.T) {
	for name, act := range map[string]func(s *stage){
		"its node lives": func(s *stage) {
			owner := s.owner
			owner.down()
			steward := func() string { return s.other().agent.cluster.mesh.Steward(s.job.id) }
			s.until(time.Minute, "another looks after it", func() bool { return steward() != owner.name })
			s.claimInVain(s.other(s.node(steward())))
		},
		"its node is gone": func(s *stage) {
			n := s.other()
			s.claimInVain(n)
			n.down()
			s.owner.down()
		},
		"it was the owner's, that is gone": func(s *stage) {
			s.claimInVain(s.owner)
			s.owner.down()
		},
	} {
		t.Run(name, func(t *testing.T) {
			fencedScene(t, func(s *stage) {
				act(s)
				s.until(unreachable+80*time.Second, "it runs elsewhere", func() bool { return s.look(2) })
			})
		})
	}
}

func TestJepsenAClaimThatStandsIsNotOverridden(t *testing.T) {
	fencedScene(t, func(s *stage) {
		had, n := zkfence.FencedError{Node: s.owner.name, Epoch: s.status(s.owner).Epoch}, s.other()
		for range 3 {
			s.want(!n.agent.cameToNothing(context.Background(), s.job.id, &had), "the claim of %s, which runs the job, came to nothing", had.Node)
			pause(context.Background(), barredFor)
		}
		n.agent.cluster.mu.Lock()
		_, noted := n.agent.cluster.barred[s.job.id]
		n.agent.cluster.mu.Unlock()
		s.want(noted, "that it bars the node is not noted")
		had.Epoch++
		s.want(!n.agent.cameToNothing(context.Background(), s.job.id, &had), "a claim that was just made came to nothing")
	})
}
