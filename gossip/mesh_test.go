package gossip_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"qosctl/gossip/gossiptest"
	"qosctl/qos"
)

func id(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", i) }

// job is a record as an owner writes it.
func job(i int, owner string, epoch uint64) qos.Record {
	rec := qos.Record{
		Spec:   qos.Spec{ID: id(i), Name: fmt.Sprintf("/jobs/%d", i), Framework: qos.Marathon, CPUs: 1, Source: []byte(`{}`)},
		Status: qos.Status{Phase: qos.PhaseRunning, Epoch: epoch, Owner: owner, Seq: 1},
	}
	first := qos.Incarnation{N: 1, Node: owner}
	rec.Status.Execution = &qos.Execution{Index: 1, Account: qos.Account{
		Entries: map[qos.Incarnation]qos.Entry{first: {Node: owner, Container: "c1", Cgroup: "/qosctl/c1"}}, Live: first,
	}}
	return rec
}

func put(t testing.TB, n *gossiptest.Node, rec qos.Record) qos.Record {
	t.Helper()
	stored, err := n.Put(rec)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func TestAClaimIsKnownEverywhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := gossiptest.NewCluster(t, 5, gossiptest.Options{}, nil)
		defer c.Close()
		c.Together(time.Minute)
		put(t, c.Nodes[3], job(1, c.Nodes[3].Name, 1))
		took := c.Until(15*time.Second, 10*time.Millisecond, "the row is everywhere", func() bool {
			for _, n := range c.Nodes {
				if rec, ok := n.Get(id(1)); !ok || rec.Status.Owner != c.Nodes[3].Name {
					return false
				}
			}
			return true
		})
		t.Logf("row everywhere after %v", took)
		// A claim of a job that all know is known by broadcast.
		put(t, c.Nodes[1], job(1, c.Nodes[1].Name, 2))
		took = c.Until(time.Second, time.Millisecond, "the claim is everywhere", func() bool {
			for _, n := range c.Nodes {
				if rec, _ := n.Get(id(1)); rec.Status.Owner != c.Nodes[1].Name {
					return false
				}
			}
			return true
		})
		t.Logf("claim everywhere after %v", took)
	})
}
