package agent

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"qosctl/agent/api"
	"qosctl/gossip"
)

// getNodes lists the nodes of the cluster.
func (a *Agent) getNodes(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, a.nodes(time.Now()))
}

func (a *Agent) nodes(now time.Time) api.PeerList {
	holds := a.holds()
	if a.cluster == nil {
		n := a.describeNode()
		return api.PeerList{Alone: true, Settled: a.settled.Load(), Quorate: true, Nodes: []api.Peer{{
			Name: a.node, State: string(gossip.Alive), Here: true, Version: a.version, CPUs: n.CPUs, Headroom: n.Headroom, Allocated: n.Allocated,
			Jobs: n.Jobs, Owned: n.Jobs, Held: a.heldHere(), Draining: holds.Draining[a.node],
		}}}
	}
	m := a.cluster.mesh
	owned := map[string]int{}
	for _, r := range m.All() {
		if !r.Status.Phase.Terminal() {
			owned[a.responsible(r, now)]++
		}
	}
	list := api.PeerList{Settled: m.Settled(), Quorate: m.Quorate()}
	for _, p := range m.Members() {
		list.Nodes = append(list.Nodes, describePeer(p, p.Name == a.node, owned[p.Name], holds))
	}
	slices.SortFunc(list.Nodes, func(x, y api.Peer) int { return strings.Compare(x.Name, y.Name) })
	return list
}

func describePeer(p gossip.Member, here bool, owned int, holds api.Holds) api.Peer {
	v := api.Peer{
		Name: p.Name, State: string(p.State), Since: p.Since, Here: here, Address: p.Address, PeerAPI: p.Meta.Peer, Hostname: p.Meta.Hostname,
		Version: p.Meta.Version, CPUs: p.Meta.CPUs, Headroom: p.Meta.Headroom, Allocated: p.Meta.Allocated, Jobs: p.Meta.Jobs, Owned: owned,
		Checkpoints: p.Meta.Checkpoints, Draining: holds.Draining[p.Name], Held: orElse(holds.Nodes[p.Name], holds.All),
	}
	if p.Meta.ProtocolMax > 0 {
		v.Protocol = fmt.Sprintf("%d–%d", p.Meta.ProtocolMin, p.Meta.ProtocolMax)
	}
	if p.Meta.Class != [8]byte{} {
		v.Class = hex.EncodeToString(p.Meta.Class[:])
	}
	return v
}
