package agent

import (
	"net"
	"net/http"
	"slices"
	"strings"

	"qosctl/agent/api"
	"qosctl/gossip"
)

// getTargets lists the agents of the cluster for Prometheus' http_sd_configs. One that is down stays in the list: that it does not answer
// is what Prometheus is to see. One that has left does not.
func (a *Agent) getTargets(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, a.targets())
}

func (a *Agent) targets() []api.TargetGroup {
	list := []api.TargetGroup{}
	add := func(node, listen, gossip, version, host string) {
		listen, secure := strings.CutPrefix(listen, secureScheme)
		address := scraped(listen, gossip, node == a.node)
		if address == "" {
			return
		}
		labels := map[string]string{"node": node, "__meta_qosctl_version": version, "__meta_qosctl_hostname": host}
		if secure {
			labels["__scheme__"] = "https"
		}
		list = append(list, api.TargetGroup{Targets: []string{address}, Labels: labels})
	}
	if a.cluster == nil {
		add(a.node, a.public(), "", a.version, a.mesosHost())
		return list
	}
	members := a.cluster.mesh.Members()
	slices.SortFunc(members, func(x, y gossip.Member) int { return strings.Compare(x.Name, y.Name) })
	for _, m := range members {
		if m.State == gossip.Left {
			continue
		}
		listen := m.Meta.API
		if m.Name == a.node {
			listen = a.public()
		}
		add(m.Name, listen, m.Address, m.Meta.Version, m.Meta.Hostname)
	}
	return list
}

// secureScheme begins what peers are told of a network address that speaks TLS. Agents that don't know it leave the node out.
const secureScheme = "https://"

// public is what peers are told of the network address.
func (a *Agent) public() string {
	if a.cfg.Listen != "" && a.cfg.TLS.CertFile != "" {
		return secureScheme + a.cfg.Listen
	}
	return a.cfg.Listen
}

// scraped is the address at which an agent that listens at listen can be scraped; "": it can't be. Every address of a node is meant by
// none: then it is the one that its gossip has. What listens on loopback can be scraped from its own node alone, by a Prometheus that
// asks the agent there.
func scraped(listen, gossip string, here bool) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "0" {
		return ""
	}
	ip := net.ParseIP(host)
	switch {
	case host == "" || ip.IsUnspecified():
		if host, _, err = net.SplitHostPort(gossip); err != nil {
			host = "127.0.0.1" // alone: there is no other node
		}
	case !here && (host == "localhost" || ip.IsLoopback()):
		return ""
	}
	return net.JoinHostPort(host, port)
}
