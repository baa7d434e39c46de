package gossip_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"qosctl/gossip"
	"qosctl/gossip/gossiptest"
)

// direct calls the Mesh of the node that is named.
type direct struct {
	mu     sync.Mutex
	meshes map[string]*gossip.Mesh
	from   string
	all    *direct
}

func (d *direct) Call(ctx context.Context, to gossip.Member, kind string, body []byte) ([]byte, error) {
	d.all.mu.Lock()
	m := d.all.meshes[to.Name]
	d.all.mu.Unlock()
	if m == nil {
		return nil, context.Canceled
	}
	return m.Answer(ctx, d.from, kind, body)
}

// TestOnTheRealNetwork runs three nodes on loopback, in real time: sockets, encryption and ports are as in production.
func TestOnTheRealNetwork(t *testing.T) {
	t.Parallel()
	keys, err := gossip.NewKeyring(gossip.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	all := &direct{meshes: map[string]*gossip.Mesh{}}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	var nodes []*gossip.Mesh
	var join []string
	for i := range 3 {
		name := gossiptest.Name(i)
		m, err := gossip.New(gossip.Options{
			Node: name, Bind: "127.0.0.1:0", Label: "test", Keys: keys, Join: join, Store: &gossiptest.Store{}, Peers: &direct{from: name, all: all},
		})
		if err != nil {
			t.Fatal(err)
		}
		all.mu.Lock()
		all.meshes[name] = m
		all.mu.Unlock()
		wg.Go(func() {
			if err := m.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		until(t, "it has an address", func() bool { return m.Address() != "" })
		nodes, join = append(nodes, m), []string{m.Address()}
	}
	until(t, "all are settled", func() bool {
		for _, m := range nodes {
			if s := m.Stats(); s.Alive != 3 || !s.Settled {
				return false
			}
		}
		return true
	})
	garbage(t, nodes[0].Address())
	if _, err := nodes[0].Put(job(1, gossiptest.Name(0), 1)); err != nil {
		t.Fatal(err)
	}
	until(t, "the row is everywhere", func() bool {
		for _, m := range nodes {
			if _, ok := m.Get(id(1)); !ok {
				return false
			}
		}
		return true
	})
	until(t, "the stranger is noticed", func() bool { return nodes[0].Stats().Strangers >= 2 })
	if s := nodes[0].Stats(); s.Alive != 3 || s.Known != 3 || s.Jobs != 1 {
		t.Errorf("%+v", s)
	}
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within a minute: %s", what)
		case <-tick.C:
		}
	}
}

// garbage is what somebody without a key sends.
func garbage(t *testing.T, addr string) {
	t.Helper()
	for _, network := range []string{"udp", "tcp"} {
		c, err := net.DialTimeout(network, addr, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: qosctl\r\n\r\n")); err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAnAddressInUseIsKnownAtOnce(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := gossip.New(gossip.Options{Node: "n", Bind: l.Addr().String(), Insecure: true, Peers: &direct{}}); err == nil {
		t.Error("bound twice")
	}
	m, err := gossip.New(gossip.Options{Node: "n", Bind: "127.0.0.1:0", Insecure: true, Peers: &direct{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func TestKeysAreExchangedWhileTheClusterRuns(t *testing.T) {
	t.Parallel()
	first, second := gossip.NewKey(), gossip.NewKey()
	synctest.Test(t, func(t *testing.T) {
		rings := map[string]*gossip.Keyring{}
		c := gossiptest.NewCluster(t, 4, gossiptest.Options{}, func(o *gossip.Options) {
			k, err := gossip.NewKeyring(first)
			if err != nil {
				t.Fatal(err)
			}
			rings[o.Node], o.Keys = k, k
		})
		defer c.Close()
		c.Together(time.Minute)
		each := func(what func(k *gossip.Keyring) error) {
			t.Helper()
			for _, n := range c.Nodes {
				if err := what(rings[n.Name]); err != nil {
					t.Fatal(err)
				}
				<-time.After(10 * time.Second) // it takes a while until all have it
			}
			for _, n := range c.Nodes {
				if s := n.Stats(); s.Alive != 4 || s.Strangers != 0 {
					t.Fatalf("%s: %+v", n.Name, s)
				}
			}
		}
		var fresh string
		each(func(k *gossip.Keyring) (err error) { fresh, err = k.Add(second); return err })
		old := rings[c.Nodes[0].Name].List()[0].Fingerprint
		each(func(k *gossip.Keyring) error { return k.Use(fresh) })
		each(func(k *gossip.Keyring) error { return k.Remove(old) })
		put(t, c.Nodes[3], job(1, c.Nodes[3].Name, 1))
		everywhere(c, 15*time.Second, "the row is there", func(n *gossiptest.Node) bool { _, ok := n.Get(id(1)); return ok })
	})
}
