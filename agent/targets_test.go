package agent

import (
	"fmt"
	"strings"
	"testing"
)

func TestWhereAnAgentCanBeScraped(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		listen, gossip string
		here           bool
		want           string
	}{
		{"10.0.0.7:30000", "10.1.0.7:30001", false, "10.0.0.7:30000"},
		{"0.0.0.0:30000", "10.1.0.7:30001", false, "10.1.0.7:30000"},
		{":30000", "10.1.0.7:30001", true, "10.1.0.7:30000"},
		{"[::]:30000", "[fd00::7]:30001", false, "[fd00::7]:30000"},
		{":30000", "", true, "127.0.0.1:30000"},
		{"127.0.0.1:30000", "", true, "127.0.0.1:30000"},
		{"127.0.0.1:30000", "10.1.0.7:30001", false, ""}, // it would be the asker's own agent
		{"localhost:30000", "10.1.0.7:30001", false, ""},
		{"node7:30000", "10.1.0.7:30001", false, "node7:30000"},
		{"127.0.0.1:0", "", true, ""},
		{"", "10.1.0.7:30001", false, ""},
	} {
		if got := scraped(c.listen, c.gossip, c.here); got != c.want {
			t.Errorf("listen %q, gossip %q, here %t: %q, want %q", c.listen, c.gossip, c.here, got, c.want)
		}
	}
}

// Each agent of a cluster lists all of them; one that has left is not waited for.
func TestEachAgentListsAllOfTheCluster(t *testing.T) {
	t.Parallel()
	var ports []string
	c := startCluster(t, 2, func(_ int, n *node) {
		_, port, _ := strings.Cut(freeAddress(t), ":")
		ports = append(ports, port)
		n.cfg.Listen = "0.0.0.0:" + port
	})
	want := fmt.Sprintf("[n0 [127.0.0.1:%s] n1 [127.0.0.1:%s]]", ports[0], ports[1]) // gossip's address is on loopback here
	for _, n := range c.nodes {
		c.until(n.cfg.Node+" lists both", func() bool {
			var got []any
			for _, g := range n.agent.targets() {
				got = append(got, g.Labels["node"], g.Targets)
			}
			return fmt.Sprint(got) == want
		})
	}
}
