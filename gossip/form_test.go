package gossip_test

import (
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"qosctl/gossip"
	"qosctl/gossip/gossiptest"
)

// Nodes that come by themselves are told of to each by each, so many times over: for 1,000 nodes that is some 16 million messages, and all
// of what a simulation of their forming takes. What is measured begins when that is over; so it is cut short, to the same state.

// form starts a cluster whose nodes all know each other, and have nothing to tell of each other.
func form(t *testing.T, n int, opts gossiptest.Options, edit func(*gossip.Options)) *gossiptest.Cluster {
	t.Helper()
	c := gossiptest.NewCluster(t, n, opts, edit)
	started := func(node *gossiptest.Node) bool {
		alive := node.Stats().Alive
		return node.List() != nil && (alive > 1 || n == 1)
	}
	c.Until(time.Minute, 100*time.Millisecond, "all have joined", func() bool {
		return !slices.ContainsFunc(c.Nodes, func(node *gossiptest.Node) bool { return !started(node) })
	})
	lists := make([]*memberlist.Memberlist, n)
	for i, node := range c.Nodes {
		lists[i] = node.List()
	}
	introduce(t, lists, c.Nodes[0].Address)
	c.Together(5 * time.Minute)
	return c
}

// joinAtOnce is how many exchanges of states are begun together: a memberlist refuses the 129th.
const joinAtOnce = 64

// introduce has all exchange states with the first, who knows them all, and drops what they then want to tell of each other.
func introduce(t *testing.T, lists []*memberlist.Memberlist, first string) {
	t.Helper()
	for wave := range slices.Chunk(lists, joinAtOnce) {
		var wg sync.WaitGroup
		for _, l := range wave {
			wg.Go(func() {
				if _, err := l.Join([]string{first}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	for _, l := range lists {
		queue := reflect.ValueOf(l).Elem().FieldByName("broadcasts")
		(*memberlist.TransmitLimitedQueue)(queue.UnsafePointer()).Reset()
	}
}
