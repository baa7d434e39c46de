package gossiptest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"qosctl/gossip"
)

// Cluster is nodes on one network. It must be made, used and closed in a bubble.
type Cluster struct {
	Net   *Network
	Nodes []*Node

	tb   testing.TB
	keys *gossip.Keyring
	edit func(*gossip.Options)
}

// Node is one of them.
type Node struct {
	*gossip.Mesh
	Name    string
	Store   *Store
	Address string

	stop context.CancelFunc
	done sync.WaitGroup
	err  error
}

// Name is the name of the i-th node.
func Name(i int) string { return fmt.Sprintf("node-%05d", i) }

// NewCluster starts n nodes, each of which joins the first. edit, if not nil, changes a node's options.
func NewCluster(tb testing.TB, n int, opts Options, edit func(*gossip.Options)) *Cluster {
	tb.Helper()
	keys, err := gossip.NewKeyring(gossip.NewKey())
	if err != nil {
		tb.Fatal(err)
	}
	c := &Cluster{Net: New(opts), tb: tb, keys: keys, edit: edit}
	for i := range n {
		c.Nodes = append(c.Nodes, &Node{Name: Name(i), Store: &Store{}})
		c.Start(i)
	}
	return c
}

// Start starts a node, for the first time or again, with what its store remembers.
func (c *Cluster) Start(i int) {
	c.tb.Helper()
	n := c.Nodes[i]
	transport, address := c.Net.Transport(n.Name)
	n.Address = address
	o := gossip.Options{
		Node: n.Name, Bind: address, Label: "test", Keys: c.keys, Store: n.Store, Peers: transport, Transport: transport,
	}
	if i > 0 {
		o.Join = []string{c.Nodes[0].Address}
	}
	if c.edit != nil {
		c.edit(&o)
	}
	m, err := gossip.New(o)
	if err != nil {
		c.tb.Fatalf("node %s: %v", n.Name, err)
	}
	transport.Serve(m)
	n.Mesh = m
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	n.done.Go(func() { n.err = m.Run(ctx) })
}

// Stop ends a node's agent without Leave.
func (c *Cluster) Stop(i int) {
	c.tb.Helper()
	n := c.Nodes[i]
	n.stop()
	n.done.Wait()
	if n.err != nil {
		c.tb.Errorf("node %s: %v", n.Name, n.err)
	}
}

// Close stops all nodes.
func (c *Cluster) Close() {
	c.tb.Helper()
	for _, n := range c.Nodes {
		n.stop()
	}
	for i := range c.Nodes {
		c.Stop(i)
	}
	<-time.After(time.Minute) // memberlist does not wait for its own dials; in a bubble all must have ended before the test does
}

// Until waits until cond holds, which is asked each so often; it fails the test after within. It returns how long it took.
func (c *Cluster) Until(within, every time.Duration, what string, cond func() bool) time.Duration {
	c.tb.Helper()
	began := time.Now()
	for !cond() {
		if time.Since(began) > within {
			c.tb.Fatalf("after %v still not so: %s", within, what)
		}
		<-time.After(every)
	}
	return time.Since(began)
}

// Together waits until every node sees all of them and is settled.
func (c *Cluster) Together(within time.Duration) {
	c.tb.Helper()
	c.Until(within, 100*time.Millisecond, "all nodes see each other and are settled", func() bool {
		for _, n := range c.Nodes {
			if s := n.Stats(); s.Alive != len(c.Nodes) || !s.Settled {
				return false
			}
		}
		return true
	})
}
