package agent

import (
	"fmt"
	"net/netip"
	"strings"
)

func (p *problems) thesis(c Config) {
	for _, from := range c.Thesis.From {
		_, err := parseNetwork(from)
		p.check(err == nil, "thesis.from", from, "must be networks or addresses, as 10.0.0.0/8 or 10.0.0.7")
	}
	if !c.Thesis.Enabled {
		return
	}
	p.check(c.Listen != "", "thesis.enabled", true, "needs `listen`: its protocol is spoken there")
	p.check(len(c.Thesis.From) > 0, "thesis.from", "", "must name the networks of the launcher and of the jobs: whoever is there needs no token")
	p.check(c.Mesos.URL != "", "thesis.enabled", true, "needs `mesos.url`: the Mesos agent says how a job's task has ended")
	p.check(len(c.Frameworks) > 0, "thesis.enabled", true, "needs `frameworks`: the launcher hands its jobs in there, and the agent looks for them there")
}

// parseNetwork reads a network, or one address.
func parseNetwork(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		n, err := netip.ParsePrefix(text)
		return n.Masked(), err
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return a.Prefix(a.BitLen())
}

// Notes are what whoever has written a sound configuration should know that it means.
func (c Config) Notes() []string {
	if !c.Thesis.Enabled {
		return nil
	}
	return []string{fmt.Sprintf("thesis.enabled: whoever is in %s and reaches %s may, without a token, hand jobs in by the old launcher's protocol, and tell "+
		"the ends of runs of such jobs whose UUID he knows; who may read the API or the frameworks knows it (docs/security.md)",
		strings.Join(c.Thesis.From, ", "), c.Listen)}
}
