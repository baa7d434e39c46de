package gossip_test

import (
	"testing"
	"testing/synctest"
	"time"

	"qosctl/gossip"
	"qosctl/gossip/gossiptest"
)

func TestWhoSpeaksAnotherProtocolIsKeptOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := gossiptest.NewCluster(t, 3, gossiptest.Options{}, nil)
		defer c.Close()
		c.Together(time.Minute)
		future := gossip.Meta{ProtocolMin: gossip.ProtocolMax + 1, ProtocolMax: gossip.ProtocolMax + 2}
		c.Stop(2)
		c.Start(2)
		if err := c.Nodes[2].SetMeta(future); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		for _, n := range c.Nodes[:2] {
			if m, _ := n.Member(c.Nodes[2].Name); m.Meta.ProtocolMin == future.ProtocolMin || n.Stats().Refused == 0 {
				t.Errorf("%s let it in: %+v, %+v", n.Name, m, n.Stats())
			}
		}
		if m, _ := c.Nodes[0].Member(c.Nodes[1].Name); !m.Live() {
			t.Error("the others do not live together")
		}
	})
}

func TestTheMetaIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := gossiptest.NewCluster(t, 4, gossiptest.Options{}, nil)
		defer c.Close()
		c.Together(time.Minute)
		for i := range 100 {
			if err := c.Nodes[1].SetMeta(gossip.Meta{Peer: "10.0.0.1:1", Headroom: float64(i), Draining: i == 99}); err != nil {
				t.Fatal(err)
			}
		}
		everywhere(c, 10*time.Second, "the last meta is known", func(n *gossiptest.Node) bool {
			m, _ := n.Member(c.Nodes[1].Name)
			return m.Meta.Headroom == 99 && m.Meta.Draining && m.Meta.ProtocolMax == gossip.ProtocolMax
		})
	})
}

func TestANameThatIsTakenIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		taken := gossiptest.Name(1)
		c := gossiptest.NewCluster(t, 2, gossiptest.Options{}, func(o *gossip.Options) {
			if o.Node == gossiptest.Name(2) {
				o.Node = taken
			}
		})
		defer c.Close()
		c.Together(time.Minute)
		first, _ := c.Nodes[0].Member(taken)
		c.Nodes = append(c.Nodes, &gossiptest.Node{Name: gossiptest.Name(2), Store: &gossiptest.Store{}})
		c.Start(2)
		<-time.After(time.Minute)
		if m, _ := c.Nodes[0].Member(taken); m.Address != first.Address || !m.Live() || c.Nodes[0].Stats().Conflicts == 0 {
			t.Errorf("%+v, %d conflicts", m, c.Nodes[0].Stats().Conflicts)
		}
		// Its machine is replaced: the name is free once the old one has been dead for a while.
		c.Net.Kill(taken)
		c.Until(3*time.Minute, time.Second, "the newcomer has the name", func() bool {
			m, _ := c.Nodes[0].Member(taken)
			return m.Live() && m.Address == c.Nodes[2].Address
		})
	})
}
