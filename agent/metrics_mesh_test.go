package agent

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"qosctl/gossip"
)

func TestGossipsFiguresAreMetrics(t *testing.T) {
	t.Parallel()
	c := newMeshCollector(func() gossip.Stats { return gossip.Stats{Alive: 2, Known: 3, Settled: true, Strangers: 7} })
	if problems, err := testutil.CollectAndLint(c); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	want := `# HELP qosctl_gossip_members_alive Nodes that answer, this one among them.
# TYPE qosctl_gossip_members_alive gauge
qosctl_gossip_members_alive 2
# HELP qosctl_gossip_settled 1 if this node has heard its peers.
# TYPE qosctl_gossip_settled gauge
qosctl_gossip_settled 1
# HELP qosctl_gossip_strangers_total Packets and streams of somebody without a key, or of another cluster.
# TYPE qosctl_gossip_strangers_total counter
qosctl_gossip_strangers_total 7
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), "qosctl_gossip_members_alive", "qosctl_gossip_settled", "qosctl_gossip_strangers_total"); err != nil {
		t.Error(err)
	}
}
