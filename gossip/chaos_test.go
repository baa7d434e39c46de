package gossip_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"qosctl/gossip/gossiptest"
	"qosctl/qos"
)

var (
	chaosSeed  = flag.Uint64("chaos.seed", 0, "run this seed of the chaos alone; 0: all")
	chaosSeeds = flag.Uint64("chaos.seeds", 6, "how many seeds")
)

// TestChaos lets nodes claim, write and end jobs while the network loses, reorders and parts, and nodes are killed and started again.
// Afterwards all must be at one. What happens and when follows from the seed; which peers memberlist chooses does not.
func TestChaos(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= *chaosSeeds; seed++ {
		if *chaosSeed != 0 && seed != *chaosSeed {
			continue
		}
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { chaos(t, seed) })
		})
	}
}

// ledger is what all nodes together have written: each version once.
type ledger struct {
	mu      sync.Mutex
	written map[string]string
	most    map[string]time.Duration // consumed, by job, as far as it was stored
	cancel  map[string]bool
}

func (l *ledger) note(t *testing.T, node string, r qos.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := fmt.Sprint(r.Spec.ID, r.Status.Epoch, r.Status.Owner, r.Status.Seq)
	text := r.Status.Reason
	if old, ok := l.written[key]; ok && old != text && r.Status.Owner == node {
		t.Errorf("version %s was used for %q and %q", key, old, text)
	}
	l.written[key] = text
}

func chaos(t *testing.T, seed uint64) {
	const nodes, jobs = 5, 8
	rng := rand.New(rand.NewPCG(seed, 7))
	c := gossiptest.NewCluster(t, nodes, gossiptest.Options{Seed: seed, Jitter: 20 * time.Millisecond, Loss: rng.Float64() * 0.2}, nil)
	defer c.Close()
	c.Together(2 * time.Minute)
	l := &ledger{written: map[string]string{}, most: map[string]time.Duration{}, cancel: map[string]bool{}}
	for i := range jobs {
		put(t, c.Nodes[i%nodes], job(i, c.Nodes[i%nodes].Name, 1))
	}
	running := make([]bool, nodes)
	for i := range running {
		running[i] = true
	}
	for step := range 150 {
		<-time.After(time.Duration(rng.IntN(1500)) * time.Millisecond)
		i := rng.IntN(nodes)
		switch what := rng.IntN(20); {
		case what < 12 && running[i]:
			act(t, rng, l, c.Nodes[i], id(rng.IntN(jobs)), step)
		case what < 14:
			c.Net.Cut(someNames(rng, c))
		case what < 16:
			c.Net.Heal()
		case what == 16:
			c.Net.Loss(rng.Float64() * 0.3)
		case what == 17 && running[i]:
			c.Stop(i)
			running[i] = false
		case what == 18:
			for k := range running {
				if !running[k] {
					c.Start(k)
					running[k] = true
				}
			}
		}
	}
	for k := range running {
		if !running[k] {
			c.Start(k)
		}
	}
	c.Net.Heal()
	c.Net.Loss(0)
	c.Until(3*time.Minute, 100*time.Millisecond, "all are together again, with one table", func() bool {
		return !slices.ContainsFunc(c.Nodes, func(n *gossiptest.Node) bool { return n.Stats().Alive != nodes }) && sameTables(c)
	})
	atOne(t, c, l, jobs)
}

// act is one write of a node: as owner, by a claim, or as steward.
func act(t *testing.T, rng *rand.Rand, l *ledger, n *gossiptest.Node, job string, step int) {
	rec, ok := n.Get(job)
	if !ok {
		return
	}
	st := &rec.Status
	switch what := rng.IntN(10); {
	case st.Owner == n.Name && what < 6: // it counts and writes
		st.Seq++
		e := st.Execution
		e.Account.Observe(e.Account.Live, e.Account.Entries[e.Account.Live].Own+time.Second)
		st.Reason = fmt.Sprintf("step %d of %s", step, n.Name)
	case what < 8: // a claim
		st.Epoch, st.Owner, st.Seq = st.Epoch+1, n.Name, 1
		st.Execution.Account.StartIncarnation(qos.Entry{Node: n.Name, Own: time.Second})
		st.Reason = fmt.Sprintf("step %d of %s", step, n.Name)
	default: // a duty
		st.Steward.Duty, st.Steward.By, st.Steward.Policy = st.Steward.Duty+1, n.Name, fmt.Sprint(step)
		if what == 9 && rng.IntN(10) == 0 {
			st.Intent = qos.IntentCancel
		}
	}
	stored, err := n.Put(rec)
	if err != nil {
		t.Errorf("%s: %v", n.Name, err)
		return
	}
	if stored.Status.Owner == n.Name {
		l.note(t, n.Name, stored)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if stored.Status.Intent == qos.IntentCancel {
		l.cancel[job] = true
	}
	if own := ownOf(stored, n.Name); own > l.most[job+n.Name] {
		l.most[job+n.Name] = own
	}
}

// ownOf is what a node's own incarnations of the job have used.
func ownOf(r qos.Record, node string) (sum time.Duration) {
	for i, e := range r.Status.Execution.Account.Entries {
		if i.Node == node {
			sum += e.Own
		}
	}
	return sum
}

func atOne(t *testing.T, c *gossiptest.Cluster, l *ledger, jobs int) {
	for i := range jobs {
		first, ok := c.Nodes[0].Get(id(i))
		if !ok {
			t.Errorf("job %d is lost", i)
			continue
		}
		if l.cancel[id(i)] && first.Status.Intent != qos.IntentCancel {
			t.Errorf("job %d: a cancel was unset", i)
		}
		for _, n := range c.Nodes {
			rec, ok := n.Get(id(i))
			st := rec.Status
			if !ok || st.Compare(first.Status) != 0 || st.Reason != first.Status.Reason || st.Steward.Compare(first.Status.Steward) != 0 {
				t.Errorf("job %d: %s has %+v, %s %+v", i, n.Name, st, c.Nodes[0].Name, first.Status)
			}
		}
		// Whoever wrote an account has it still.
		for _, n := range c.Nodes {
			rec, _ := n.Get(id(i))
			if got, had := ownOf(rec, n.Name), l.most[id(i)+n.Name]; got < had {
				t.Errorf("job %d: %s had an account of %v, now %v", i, n.Name, had, got)
			}
		}
	}
}

func someNames(rng *rand.Rand, c *gossiptest.Cluster) []string {
	var names []string
	for _, n := range c.Nodes {
		if rng.IntN(2) == 0 {
			names = append(names, n.Name)
		}
	}
	return names
}
