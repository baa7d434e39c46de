package gossip_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"qosctl/gossip"
	"qosctl/gossip/gossiptest"
)

// TestWhoKnowsNothingSettlesNobody: of three nodes two have lost their stores and start again at once, and the one that has the rows is slow to
// answer. They don't take each other's empty tables for the cluster's. Whom they ask first is left to chance, so it is tried some times.
func TestWhoKnowsNothingSettlesNobody(t *testing.T) {
	t.Parallel()
	for range 10 {
		synctest.Test(t, lostStores)
	}
}

func lostStores(t *testing.T) {
	s := &slow{}
	c := gossiptest.NewCluster(t, 3, gossiptest.Options{}, s.before)
	defer c.Close()
	c.Together(time.Minute)
	put(t, c.Nodes[0], job(1, c.Nodes[0].Name, 1))
	has := func(n *gossiptest.Node) bool { _, ok := n.Get(id(1)); return ok }
	everywhere(c, 15*time.Second, "the row is there", has)
	for _, i := range []int{1, 2} {
		c.Stop(i)
		c.Nodes[i].Store = &gossiptest.Store{}
		s.set(true, c.Nodes[0].Name, c.Nodes[i].Name)
	}
	<-time.After(time.Minute)
	for _, i := range []int{1, 2} {
		c.Start(i)
	}
	for range 80 {
		<-time.After(100 * time.Millisecond)
		for _, n := range c.Nodes[1:] {
			if n.Settled() && !has(n) {
				t.Fatalf("%s is settled, and does not have the row", n.Name)
			}
		}
	}
	for _, n := range c.Nodes[1:] {
		s.set(false, c.Nodes[0].Name, n.Name)
	}
	everywhere(c, 20*time.Second, "all are settled, with the row", func(n *gossiptest.Node) bool { return has(n) && n.Settled() })
}

// TestAMemberThatIsSilentKeepsNobodyUnsettledForLong is the same, and the one that has the rows does not answer at all.
func TestAMemberThatIsSilentKeepsNobodyUnsettledForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &slow{}
		s.set(true, gossiptest.Name(0), gossiptest.Name(1))
		s.set(true, gossiptest.Name(0), gossiptest.Name(2))
		c := gossiptest.NewCluster(t, 3, gossiptest.Options{}, s.before)
		defer c.Close()
		took := c.Until(time.Minute, 100*time.Millisecond, "the two are settled", func() bool { return c.Nodes[1].Settled() && c.Nodes[2].Settled() })
		t.Logf("settled after %v", took)
	})
}

// TestAClusterThatStartsAtOnceSettles: for the first time, and again with what its nodes remember.
func TestAClusterThatStartsAtOnceSettles(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 3, 5, 40} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := gossiptest.NewCluster(t, n, gossiptest.Options{Loss: 0.02, Seed: uint64(n)}, nil)
				defer c.Close()
				most := 20 * time.Second
				t.Logf("after %v", c.Until(most, 100*time.Millisecond, "settled", settled(c)))
				for i := range c.Nodes {
					c.Stop(i)
				}
				<-time.After(time.Minute)
				for i := range c.Nodes {
					c.Start(i)
				}
				t.Logf("again after %v", c.Until(most, 100*time.Millisecond, "settled", settled(c)))
				t.Logf("known after %v", c.Until(time.Minute, 100*time.Millisecond, "all are known to be", func() bool {
					for _, n := range c.Nodes {
						for _, m := range n.Members() {
							if m.Meta.Fresh {
								return false
							}
						}
					}
					return true
				}))
				// One that starts alone is settled by the first that it hears.
				c.Stop(n - 1)
				<-time.After(20 * time.Second)
				c.Start(n - 1)
				t.Logf("one after %v", c.Until(8*time.Second, 100*time.Millisecond, "settled", settled(c)))
			})
		})
	}
}

func settled(c *gossiptest.Cluster) func() bool {
	return func() bool {
		for _, n := range c.Nodes {
			if s := n.Stats(); s.Alive != len(c.Nodes) || !s.Settled {
				return false
			}
		}
		return true
	}
}

// slow holds a node's calls to and from another back.
type slow struct {
	mu   sync.Mutex
	held map[[2]string]bool
}

func (s *slow) set(on bool, a, b string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		s.held = map[[2]string]bool{}
	}
	s.held[[2]string{a, b}], s.held[[2]string{b, a}] = on, on
}

func (s *slow) before(o *gossip.Options) {
	node := o.Node
	o.Peers = wire{o.Peers, func(to gossip.Member, _ string, body []byte, pass func([]byte) ([]byte, error)) ([]byte, error) {
		s.mu.Lock()
		held := s.held[[2]string{node, to.Name}]
		s.mu.Unlock()
		if held {
			return nil, fmt.Errorf("%s does not answer", to.Name)
		}
		return pass(body)
	}}
}
