package gossip_test

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/gossip"
	"qosctl/gossip/gossiptest"
	"qosctl/qos"
)

// everywhere waits until cond holds on every node.
func everywhere(c *gossiptest.Cluster, within time.Duration, what string, cond func(n *gossiptest.Node) bool) time.Duration {
	return c.Until(within, 20*time.Millisecond, what, func() bool {
		return !slices.ContainsFunc(c.Nodes, func(n *gossiptest.Node) bool { return !cond(n) })
	})
}

func TestARestartIsNotNoticedAndNothingIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := gossiptest.NewCluster(t, 5, gossiptest.Options{}, nil)
		defer c.Close()
		c.Together(time.Minute)
		put(t, c.Nodes[2], job(1, c.Nodes[2].Name, 1))
		put(t, c.Nodes[2], job(2, c.Nodes[2].Name, 1))
		if err := c.Nodes[1].Mark("hold/all", "yes"); err != nil {
			t.Fatal(err)
		}
		if err := c.Nodes[2].Remove(id(2)); err != nil {
			t.Fatal(err)
		}
		everywhere(c, 15*time.Second, "all is known", func(n *gossiptest.Node) bool {
			_, one := n.Get(id(1))
			return one && n.Stats().Tombstones == 1 && n.Marks()["hold/all"] == "yes"
		})
		<-time.After(time.Second)
		c.Stop(2)
		<-time.After(time.Second)
		c.Start(2)
		again := c.Nodes[2]
		if rec, ok := again.Get(id(1)); !ok || rec.Status.Owner != again.Name {
			t.Errorf("before it heard from anybody it knows %+v, %v", rec, ok)
		}
		if again.Marks()["hold/all"] != "yes" || again.Stats().Tombstones != 1 || again.Stats().Known != 5 {
			t.Errorf("marks %v, %+v", again.Marks(), again.Stats())
		}
		if again.Settled() || again.Quorate() {
			t.Error("settled before it has met anybody")
		}
		for range 100 {
			<-time.After(100 * time.Millisecond)
			for _, n := range c.Nodes {
				if m, _ := n.Member(again.Name); n != again && !m.Live() {
					t.Fatalf("%s takes it for %s", n.Name, m.State)
				}
			}
		}
		c.Together(15 * time.Second)
	})
}

func TestHalvesOfALongCutMeetAgainByThemselves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := gossiptest.NewCluster(t, 7, gossiptest.Options{}, nil)
		defer c.Close()
		c.Together(time.Minute)
		put(t, c.Nodes[0], job(1, c.Nodes[0].Name, 1))
		everywhere(c, 15*time.Second, "the row is there", func(n *gossiptest.Node) bool { _, ok := n.Get(id(1)); return ok })
		small := []string{c.Nodes[0].Name, c.Nodes[1].Name}
		c.Net.Cut(small)
		<-time.After(3 * time.Minute)
		for i, n := range c.Nodes {
			if got, want := n.Quorate(), i > 1; got != want {
				t.Errorf("%s: quorate %v, want %v", n.Name, got, want)
			}
		}
		put(t, c.Nodes[4], job(1, c.Nodes[4].Name, 2)) // the large side claims
		rec, _ := c.Nodes[0].Get(id(1))                // the old owner goes on
		rec.Status.Seq, rec.Status.Reason = 2, "goes on"
		put(t, c.Nodes[0], rec)
		c.Net.Heal()
		took := everywhere(c, 30*time.Second, "the higher epoch holds", func(n *gossiptest.Node) bool {
			rec, _ := n.Get(id(1))
			return rec.Status.Owner == c.Nodes[4].Name && n.Stats().Alive == 7
		})
		t.Logf("healed after %v", took)
		c.Together(30 * time.Second)
	})
}

func TestANodeAloneIsSettledOnlyIfItNeverKnewOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := gossiptest.NewCluster(t, 1, gossiptest.Options{}, nil)
		c.Until(10*time.Second, 100*time.Millisecond, "settled alone", func() bool { return c.Nodes[0].Settled() })
		if s := c.Nodes[0].Stats(); s.Alone || !s.Quorate {
			t.Errorf("%+v", s)
		}
		c.Close()

		c = gossiptest.NewCluster(t, 3, gossiptest.Options{}, nil)
		defer c.Close()
		c.Together(time.Minute)
		c.Net.Cut([]string{c.Nodes[0].Name})
		<-time.After(time.Minute)
		if s := c.Nodes[0].Stats(); !s.Alone || s.Settled || s.Quorate {
			t.Errorf("cut off: %+v", s)
		}
		c.Stop(0)
		c.Start(0)
		<-time.After(time.Minute)
		if s := c.Nodes[0].Stats(); !s.Alone || s.Settled || s.Quorate || s.Known != 3 {
			t.Errorf("cut off and started again: %+v", s)
		}
		for _, gone := range []string{c.Nodes[1].Name, c.Nodes[2].Name} {
			if !c.Nodes[0].Forget(gone) {
				t.Errorf("%s was not forgotten", gone)
			}
		}
		c.Until(10*time.Second, 100*time.Millisecond, "settled, as the others were forgotten", func() bool { return c.Nodes[0].Settled() })
		c.Net.Heal()
		c.Together(2 * time.Minute)
	})
}

func TestWhoLeavesIsNotTakenForDead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := gossiptest.NewCluster(t, 9, gossiptest.Options{}, nil)
		defer c.Close()
		c.Together(time.Minute)
		gone := c.Nodes[8]
		jobs := 0
		for i := range 50 {
			if c.Nodes[0].Steward(id(i)) == gone.Name {
				jobs++
			}
		}
		if jobs == 0 {
			t.Fatal("nothing falls to it")
		}
		if err := gone.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.Until(3*time.Second, 50*time.Millisecond, "all know that it left", func() bool {
			return !slices.ContainsFunc(c.Nodes[:8], func(n *gossiptest.Node) bool { m, _ := n.Member(gone.Name); return m.State != gossip.Left })
		})
		for i := range 50 {
			first := c.Nodes[0].Steward(id(i))
			if first == gone.Name {
				t.Errorf("job %d falls to who left", i)
			}
			for _, n := range c.Nodes[:8] {
				if s := n.Steward(id(i)); s != first {
					t.Errorf("job %d falls to %s and to %s", i, s, first)
				}
			}
		}
		if s := c.Nodes[0].Stats(); s.Known != 8 {
			t.Errorf("%d are known", s.Known)
		}
	})
}

func TestRemovedJobsStayRemoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		removed := map[string]int{}
		c := gossiptest.NewCluster(t, 4, gossiptest.Options{}, func(o *gossip.Options) {
			node := o.Node
			o.Removed = func(string) { mu.Lock(); removed[node]++; mu.Unlock() }
		})
		defer c.Close()
		c.Together(time.Minute)
		put(t, c.Nodes[0], job(1, c.Nodes[0].Name, 1))
		everywhere(c, 15*time.Second, "the row is there", func(n *gossiptest.Node) bool { _, ok := n.Get(id(1)); return ok })
		<-time.After(time.Second)
		c.Stop(3) // it has the row, and does not hear of its end
		if err := c.Nodes[0].Remove(id(1)); err != nil {
			t.Fatal(err)
		}
		<-time.After(10 * time.Minute)
		c.Start(3)
		if _, ok := c.Nodes[3].Get(id(1)); !ok {
			t.Fatal("it forgot the row")
		}
		everywhere(c, 30*time.Second, "it is gone everywhere", func(n *gossiptest.Node) bool { _, ok := n.Get(id(1)); return !ok })
		for _, n := range c.Nodes {
			if s := n.Stats(); s.Tombstones != 1 || s.Jobs != 0 {
				t.Errorf("%s: %+v", n.Name, s)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if d := cmp.Diff(map[string]int{c.Nodes[1].Name: 1, c.Nodes[2].Name: 1, c.Nodes[3].Name: 1}, removed); d != "" {
			t.Errorf("told of the removal: %s", d)
		}
	})
}

func TestMarksAreTheSameEverywhereWhoeverWroteLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := gossiptest.NewCluster(t, 6, gossiptest.Options{Loss: 0.1}, nil)
		defer c.Close()
		c.Together(time.Minute)
		mark := func(i int, key, value string) {
			t.Helper()
			if err := c.Nodes[i].Mark(key, value); err != nil {
				t.Fatal(err)
			}
		}
		mark(0, "hold/all", "yes")
		took := everywhere(c, 5*time.Second, "held", func(n *gossiptest.Node) bool { return n.Marks()["hold/all"] == "yes" })
		t.Logf("held after %v", took)
		half := []string{c.Nodes[0].Name, c.Nodes[1].Name, c.Nodes[2].Name}
		c.Net.Cut(half)
		<-time.After(time.Minute)
		mark(0, "hold/all", "")
		mark(5, "hold/all", "later")
		mark(5, "hold/all", "latest")
		mark(1, "drain/a", "1")
		c.Net.Heal()
		want := map[string]string{"hold/all": "latest", "drain/a": "1"}
		everywhere(c, 40*time.Second, "the same marks", func(n *gossiptest.Node) bool { return cmp.Equal(want, n.Marks()) })
		if err := c.Nodes[0].Mark("k", strings.Repeat("x", 300)); err == nil {
			t.Error("a value of 300 bytes was taken")
		}
	})
}

func TestAStrangerIsNamedOnceAndChangesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		warned := 0
		other, err := gossip.NewKeyring(gossip.NewKey())
		if err != nil {
			t.Fatal(err)
		}
		c := gossiptest.NewCluster(t, 4, gossiptest.Options{}, func(o *gossip.Options) {
			switch o.Node {
			case gossiptest.Name(0):
				o.Logger = slog.New(counter{func(r slog.Record) {
					mu.Lock()
					defer mu.Unlock()
					if r.Level >= slog.LevelWarn {
						warned++
					}
				}})
			case gossiptest.Name(2): // another key
				o.Keys = other
			case gossiptest.Name(3): // another cluster
				o.Label = "other"
			}
		})
		defer c.Close()
		<-time.After(8 * time.Minute)
		put(t, c.Nodes[2], job(9, c.Nodes[2].Name, 9))
		<-time.After(2 * time.Minute)
		s := c.Nodes[0].Stats()
		mu.Lock()
		defer mu.Unlock()
		if s.Alive != 2 || s.Known != 2 || s.Jobs != 0 || s.Strangers < 100 {
			t.Errorf("%+v", s)
		}
		if warned != 2 {
			t.Errorf("%d warnings of two strangers", warned)
		}
	})
}

// counter is a slog.Handler.
type counter struct{ count func(slog.Record) }

func TestAccountsReachTheReplicas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		owner := gossiptest.Name(1)
		var mu sync.Mutex
		account := job(1, owner, 1).Status.Execution.Account
		c := gossiptest.NewCluster(t, 6, gossiptest.Options{Loss: 0.05}, func(o *gossip.Options) {
			if o.Node == owner {
				o.Accounts = func() []gossip.Account {
					mu.Lock()
					defer mu.Unlock()
					return []gossip.Account{{Job: id(1), Execution: 1, Account: account.Clone()}}
				}
			}
		})
		defer c.Close()
		c.Together(time.Minute)
		put(t, c.Nodes[1], job(1, owner, 1))
		everywhere(c, 15*time.Second, "the row is there", func(n *gossiptest.Node) bool { _, ok := n.Get(id(1)); return ok })
		mu.Lock()
		account.Observe(account.Live, time.Hour)
		mu.Unlock()
		replicas := c.Nodes[0].Replicas(id(1), 2)
		if len(replicas) != 2 || slices.Contains(replicas, owner) {
			t.Fatalf("replicas %v", replicas)
		}
		progress := func(name string) time.Duration {
			i := slices.IndexFunc(c.Nodes, func(n *gossiptest.Node) bool { return n.Name == name })
			rec, _ := c.Nodes[i].Get(id(1))
			return rec.Status.Execution.Account.Progress()
		}
		c.Until(40*time.Second, 100*time.Millisecond, "the replicas have the account", func() bool {
			return progress(replicas[0]) == time.Hour && progress(replicas[1]) == time.Hour
		})
		digest := c.Nodes[0].Digest()
		for _, n := range c.Nodes {
			if n.Digest() != digest {
				t.Error("an account changed a version")
			}
			if slices.Contains(replicas, n.Name) || n.Name == owner {
				continue
			}
			if progress(n.Name) != 0 {
				t.Errorf("%s was told of the account", n.Name)
			}
			if err := n.Pull(t.Context(), replicas[0], id(1)); err != nil || progress(n.Name) != time.Hour {
				t.Errorf("after Pull %s has %v, %v", n.Name, progress(n.Name), err)
			}
		}
	})
}

func TestWhatCannotBeStoredIsNotTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		told := map[string][]string{}
		c := gossiptest.NewCluster(t, 3, gossiptest.Options{}, func(o *gossip.Options) {
			node := o.Node
			o.Changed = func(r qos.Record) { mu.Lock(); told[node] = append(told[node], r.Status.Owner); mu.Unlock() }
		})
		defer c.Close()
		c.Together(time.Minute)
		c.Nodes[0].Store.Break(true)
		if _, err := c.Nodes[0].Put(job(1, c.Nodes[0].Name, 1)); err == nil {
			t.Error("a write that was not stored succeeded")
		}
		c.Nodes[0].Store.Break(false)
		put(t, c.Nodes[0], job(1, c.Nodes[0].Name, 2))
		everywhere(c, 15*time.Second, "the row is there", func(n *gossiptest.Node) bool { r, _ := n.Get(id(1)); return r.Status.Epoch == 2 })
		<-time.After(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if len(told[c.Nodes[0].Name]) != 0 || len(told[c.Nodes[1].Name]) == 0 || len(told[c.Nodes[1].Name]) > 3 {
			t.Errorf("told %v", told)
		}
	})
}
