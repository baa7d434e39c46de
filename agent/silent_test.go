package agent

import (
	"testing"
	"time"

	"qosctl/gossip"
)

// TestACheckpointIsWaitedFor as long as the node that has it may answer: one that is suspected, or has been dead for less than the grace, is no
// reason to start a job anew.
func TestACheckpointIsWaitedFor(t *testing.T) {
	c := startCluster(t, 2, func(_ int, n *node) { n.cfg.Cluster.Grace = 3 * time.Second })
	a := c.nodes[0].agent
	silent := func() error {
		_, err := a.askOffers(t.Context(), idA, 1, "n1")
		return err
	}
	if err := silent(); err != nil {
		t.Errorf("it answers: %v", err)
	}
	if _, err := a.askOffers(t.Context(), idA, 1, "n0"); err != nil {
		t.Errorf("this node itself: %v", err)
	}
	c.nodes[1].end()
	for gone := false; !gone; {
		m, _ := a.cluster.member("n1")
		err := silent()
		gone = a.stateOf("n1", time.Now()) == nodeGone
		if err == nil && !gone {
			t.Fatalf("its answer is not waited for while it is %v", m.State)
		}
		if m.State == gossip.Left {
			t.Fatal("it has left")
		}
	}
	if err := silent(); err != nil {
		t.Errorf("it is gone: %v", err)
	}
}
