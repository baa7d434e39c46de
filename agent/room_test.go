package agent

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/gossip"
	"qosctl/qos"
)

// What one node has sold, what its jobs need and what it has learnt of them is known on the others, and jobs are launched by it.
func TestWhatANodeNeedsAndLearnsIsKnownElsewhere(t *testing.T) {
	t.Parallel()
	simulate(t, 1, 3, onlyAsked, func(w *world) {
		if !w.together(time.Minute) {
			return
		}
		j := w.submitAgain(w.nodes[0], simID(0), "/j0", "burn 30s", 0.5, 2)
		had, other := w.runs(j.id)
		if had == nil {
			return
		}
		peer := other.agent
		w.until(5*time.Minute, "a run has ended, and another node knows what it took", func() bool {
			return peer.model(qos.Marathon, "/j0").N > 0
		})
		w.until(time.Minute, "that is on its disk", func() bool { return peer.store.model(qos.Marathon, "/j0").N > 0 })
		if m := peer.model(qos.Marathon, "/j0"); m.Work < 25 || m.Work > 35 || peer.model(qos.Chronos, "/j0").N > 0 {
			w.note("it has learnt %+v of a run of 30 CPU seconds", m)
			t.Errorf("model %+v", m)
		}
		owner := func() string {
			r, _ := peer.cluster.mesh.Get(j.id)
			return r.Status.Owner
		}
		w.until(time.Minute, "another node knows what is sold and needed where it runs", func() bool {
			m, ok := peer.cluster.member(owner())
			return ok && m.Meta.HasRoom && m.Meta.Sold >= 0.5 && m.Meta.Need > 0 && m.Meta.Need < 0.5
		})
		big := newJob(row{Record: qos.Record{Spec: qos.Spec{
			ID: simID(1), Name: "/big", Framework: qos.Marathon, CPUs: 1, QoS: qos.QoS{Duration: 3600, Deadline: qos.Deadline{After: 1200 * time.Second}},
		}}})
		var want []string
		for _, n := range w.nodes {
			if n.name != owner() {
				want = append(want, n.name)
			}
		}
		slices.Sort(want)
		big.mu.Lock()
		defer big.mu.Unlock()
		if d := cmp.Diff(want, peer.hostsFor(big, time.Now())); d != "" {
			t.Errorf("a job that needs all of a node goes where nothing is needed: %s", d)
		}
		big.row.Record.Spec.QoS.Deadline.After = 36000 * time.Second
		if got := peer.hostsFor(big, time.Now()); got != nil {
			t.Errorf("a job that needs little is bound to %v", got)
		}
	})
}

func TestANodeOfAnEarlierVersionTellsItsHeadroomAlone(t *testing.T) {
	t.Parallel()
	m := gossip.Member{Name: "n", Meta: gossip.Meta{CPUs: 4, Headroom: 1.5, Jobs: 2}}
	if d := cmp.Diff(qos.Room{Node: "n", CPUs: 4, Sold: 2.5, Need: 2.5, Jobs: 2}, peerRoom(m)); d != "" {
		t.Error(d)
	}
	m.Meta.HasRoom, m.Meta.Sold, m.Meta.Need = true, 1, 0.5
	if d := cmp.Diff(qos.Room{Node: "n", CPUs: 4, Sold: 1, Need: 0.5, Jobs: 2}, peerRoom(m)); d != "" {
		t.Error(d)
	}
	for cpus, want := range map[float64]float64{0: 0, 0.1: 0.1, 0.3: 0.3, 0.31: 0.4, 1.999: 2} {
		if got := tenthsUp(cpus); !sameCPUs(got, want) {
			t.Errorf("%g CPUs are told as %g", cpus, got)
		}
	}
}

func TestSharesFollowWhatWasSoldAndGiven(t *testing.T) {
	t.Parallel()
	got := entitlements([]heldShare{
		{"/qosctl/a-1/x", 0.5, 0.2}, {"/qosctl/a-1/y", 0.5, 0.2}, {"/qosctl/b-1/z", 1, 1.5}, {"/loose", 1, 1}, {"", 1, 1},
	})
	if d := cmp.Diff(map[string]float64{"/qosctl/a-1": 0.2, "/qosctl/b-1": 1.5, "/qosctl": 1.5}, got); d != "" {
		t.Error(d)
	}
}
