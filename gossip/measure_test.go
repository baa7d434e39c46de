package gossip_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"qosctl/gossip"
	"qosctl/gossip/gossiptest"
	"qosctl/qos"
)

// What is measured here is measured in virtual time: it does not depend on the machine. Each is used by a small test and by a benchmark.

func median(all []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(all))
	return s[len(s)/2]
}

// on99 waits until cond holds for 99 % of n nodes, and returns how long that took.
func on99(t *testing.T, c *gossiptest.Cluster, within time.Duration, n int, what string, cond func(i int) bool) time.Duration {
	t.Helper()
	missing := make([]int, n)
	for i := range missing {
		missing[i] = i
	}
	return c.Until(within, 5*time.Millisecond, what, func() bool {
		missing = slices.DeleteFunc(missing, cond)
		return len(missing)*100 <= n
	})
}

// fill gives all nodes the same rows, by way of their stores, before they start.
func fill(t *testing.T, c *gossiptest.Cluster, rows []qos.Record) {
	t.Helper()
	first := c.Nodes[0]
	for _, r := range rows {
		if _, err := first.Put(r); err != nil {
			t.Fatal(err)
		}
	}
	for i, n := range c.Nodes[1:] {
		c.Stop(i + 1)
		n.Store.CopyBucket(first.Store, "gossip.rows")
		c.Start(i + 1)
	}
}

// measureClaims is how long it takes until a claim is known on 99 % of the nodes, for each of so many claims.
func measureClaims(t *testing.T, n, claims int) []time.Duration {
	c := form(t, n, gossiptest.Options{Seed: 1}, nil)
	defer c.Close()
	put(t, c.Nodes[0], job(1, c.Nodes[0].Name, 1))
	c.Until(time.Minute, 100*time.Millisecond, "the row is everywhere", func() bool {
		return !slices.ContainsFunc(c.Nodes, func(n *gossiptest.Node) bool { _, ok := n.Get(id(1)); return !ok })
	})
	var took []time.Duration
	for k := range claims {
		<-time.After(10*time.Second + time.Duration(k)*37*time.Millisecond)
		epoch, by := uint64(k+2), c.Nodes[(k*17+3)%n]
		put(t, by, job(1, by.Name, epoch))
		took = append(took, on99(t, c, 15*time.Second, n, "the claim is known", func(i int) bool {
			rec, _ := c.Nodes[i].Get(id(1))
			return rec.Status.Epoch == epoch && rec.Status.Owner == by.Name
		}))
	}
	return took
}

// measureDeath is how long it takes until all know that a node died.
func measureDeath(t *testing.T, n, deaths int) []time.Duration {
	c := form(t, n, gossiptest.Options{Seed: 2}, nil)
	defer c.Close()
	var took []time.Duration
	for k := range deaths {
		<-time.After(20*time.Second + time.Duration(k)*317*time.Millisecond)
		victim := c.Nodes[n-1-k].Name
		c.Net.Kill(victim)
		alive := c.Nodes[:n-1-k]
		took = append(took, c.Until(time.Minute, 20*time.Millisecond, "the death is known everywhere", func() bool {
			return !slices.ContainsFunc(alive, func(n *gossiptest.Node) bool {
				m, ok := n.Member(victim)
				return ok && m.Live()
			})
		}))
	}
	return took
}

// healing is what a heal took.
type healing struct {
	contact   time.Duration // from the end of the cut until a node sees one of the other side
	tables    time.Duration // from then until all tables are the same
	callBytes int64         // of all nodes, since the end of the cut
}

// measureHeal parts n nodes into halves for cut; each half changes half of the jobs. Nobody helps afterwards.
func measureHeal(t *testing.T, n, jobs int, cut time.Duration) healing {
	c := gossiptest.NewCluster(t, n, gossiptest.Options{Seed: 3}, nil)
	defer c.Close()
	rows := make([]qos.Record, jobs)
	for i := range rows {
		rows[i] = job(i, c.Nodes[i%n].Name, 1)
	}
	fill(t, c, rows)
	c.Together(5 * time.Minute)
	var left, right []string
	for i, node := range c.Nodes {
		if i < n/2 {
			left = append(left, node.Name)
		} else {
			right = append(right, node.Name)
		}
	}
	c.Net.Cut(left, right)
	<-time.After(cut / 2)
	for i := range rows {
		by := c.Nodes[i%n]
		put(t, by, job(i, by.Name, 2))
	}
	<-time.After(cut - cut/2)
	before := calls(c)
	c.Net.Heal()
	var h healing
	h.contact = c.Until(3*time.Minute, 10*time.Millisecond, "contact", func() bool {
		for i, node := range c.Nodes {
			others := right
			if i >= n/2 {
				others = left
			}
			for _, o := range others {
				if m, _ := node.Member(o); m.Live() {
					return true
				}
			}
		}
		return false
	})
	h.tables = c.Until(3*time.Minute, 50*time.Millisecond, "the tables are the same", func() bool { return sameTables(c) })
	h.callBytes = calls(c) - before
	for i, node := range c.Nodes {
		if rec, _ := node.Get(id(i)); rec.Status.Epoch != 2 {
			t.Errorf("%s has epoch %d of job %d", node.Name, rec.Status.Epoch, i)
		}
	}
	return h
}

func calls(c *gossiptest.Cluster) (sum int64) {
	for _, n := range c.Nodes {
		sum += c.Net.Sent(n.Name).Call
	}
	return sum
}

func sameTables(c *gossiptest.Cluster) bool {
	first := c.Nodes[0].Digest()
	return !slices.ContainsFunc(c.Nodes, func(n *gossiptest.Node) bool { return n.Digest() != first })
}

// rest is what a node sends at rest, in bytes a second.
type rest struct{ packets, streams, calls float64 }

// measureRest is what a node sends while nothing happens.
func measureRest(t *testing.T, n, jobs int, during time.Duration) rest {
	c := gossiptest.NewCluster(t, n, gossiptest.Options{Seed: 4}, nil)
	defer c.Close()
	rows := make([]qos.Record, jobs)
	for i := range rows {
		rows[i] = job(i, c.Nodes[i%n].Name, 1)
	}
	fill(t, c, rows)
	c.Together(5 * time.Minute)
	c.Until(3*time.Minute, time.Second, "the tables are the same", func() bool { return sameTables(c) })
	<-time.After(time.Minute)
	return sending(c, during)
}

func sending(c *gossiptest.Cluster, during time.Duration) rest {
	total := func() (b gossiptest.Bytes) {
		for _, n := range c.Nodes {
			s := c.Net.Sent(n.Name)
			b.Packet, b.Stream, b.Call = b.Packet+s.Packet, b.Stream+s.Stream, b.Call+s.Call
		}
		return b
	}
	before := total()
	<-time.After(during)
	after := total()
	per := float64(len(c.Nodes)) * during.Seconds()
	return rest{float64(after.Packet-before.Packet) / per, float64(after.Stream-before.Stream) / per, float64(after.Call-before.Call) / per}
}

// measureAccounts is what accounts add to what all nodes send, in bytes a second for each running job.
func measureAccounts(t *testing.T, n, perNode int, during time.Duration) float64 {
	began := time.Now()
	var running atomic.Bool
	c := gossiptest.NewCluster(t, n, gossiptest.Options{Seed: 5}, func(o *gossip.Options) {
		node := o.Node
		o.Accounts = func() []gossip.Account {
			if !running.Load() {
				return nil
			}
			var k int
			if _, err := fmt.Sscanf(node, "node-%d", &k); err != nil {
				panic(err)
			}
			var all []gossip.Account
			for j := range perNode {
				rec := job(k*perNode+j, node, 1)
				a := rec.Status.Execution.Account
				a.Count(time.Since(began))
				a.Borrow(a.Live, time.Since(began)/3)
				all = append(all, gossip.Account{Job: rec.Spec.ID, Execution: 1, Account: a})
			}
			return all
		}
	})
	defer c.Close()
	for k, node := range c.Nodes {
		for j := range perNode {
			put(t, node, job(k*perNode+j, node.Name, 1))
		}
	}
	c.Together(5 * time.Minute)
	c.Until(3*time.Minute, time.Second, "the tables are the same", func() bool { return sameTables(c) })
	<-time.After(time.Minute)
	quiet := sending(c, during)
	running.Store(true)
	<-time.After(time.Minute)
	busy := sending(c, during)
	for _, r := range c.Nodes[0].Replicas(id(0), 2) {
		for _, node := range c.Nodes {
			if node.Name != r {
				continue
			}
			rec, ok := node.Get(id(0))
			if age := time.Since(began) - rec.Status.Execution.Account.Progress(); !ok || age > 30*time.Second {
				t.Errorf("replica %s is %v behind", r, age)
			}
		}
	}
	return (busy.packets + busy.streams + busy.calls - quiet.packets - quiet.streams - quiet.calls) / float64(perNode)
}

// measureBurst is how long it takes until so many claims, made within a second on different nodes, have all arrived everywhere.
func measureBurst(t *testing.T, n, claims int) time.Duration {
	c := gossiptest.NewCluster(t, n, gossiptest.Options{Seed: 6}, nil)
	defer c.Close()
	rows := make([]qos.Record, claims)
	for i := range rows {
		rows[i] = job(i, c.Nodes[0].Name, 1)
	}
	fill(t, c, rows)
	c.Together(5 * time.Minute)
	c.Until(3*time.Minute, time.Second, "the tables are the same", func() bool { return sameTables(c) })
	<-time.After(10 * time.Second)
	began := time.Now()
	for i := range claims {
		by := c.Nodes[(i*7+1)%n]
		put(t, by, job(i, by.Name, 2))
		<-time.After(time.Second / time.Duration(claims))
	}
	missing := slices.Clone(c.Nodes)
	c.Until(time.Minute, 50*time.Millisecond, "all claims are everywhere", func() bool {
		missing = slices.DeleteFunc(missing, func(n *gossiptest.Node) bool {
			for i := range claims {
				if rec, _ := n.Get(id(i)); rec.Status.Epoch != 2 {
					return false
				}
			}
			return true
		})
		return len(missing) == 0
	})
	return time.Since(began)
}
