package agent

import (
	"math"

	"qosctl/gossip"
	"qosctl/qos"
)

// Where jobs are launched and moved to rests on what nodes gossip of themselves: how much of them Mesos has sold, and how much their jobs need.
// Headroom says neither: a node whose jobs run early in its idle CPUs has none, and yet all that a job may want.

// roomOf sums this node up after a look. waiting is the requests of jobs that hold a part of it and were not decided on.
func (a *Agent) roomOf(looks []look, waiting float64) {
	others := a.sold()
	r := qos.Room{Node: a.node, CPUs: a.cpus - a.cfg.Control.Reserve, Sold: others + a.requests(nil), Need: others + waiting}
	for _, l := range looks {
		for i, d := range l.decisions {
			r.Need += qos.Wanted(d, l.view.Jobs[i])
			r.Jobs++
		}
	}
	a.room.Store(&r)
}

// look is a policy's part of a look at the node.
type look struct {
	view      qos.NodeView
	decisions []qos.Decision
}

// peerRoom is what a node gossips. One of an earlier version tells its headroom alone: what is neither sold nor given away.
func peerRoom(m gossip.Member) qos.Room {
	r := qos.Room{Node: m.Name, CPUs: m.Meta.CPUs, Jobs: m.Meta.Jobs, Sold: m.Meta.CPUs - m.Meta.Headroom}
	r.Need = r.Sold
	if m.Meta.HasRoom {
		r.Sold, r.Need = m.Meta.Sold, m.Meta.Need
	}
	return r
}

// peerRooms are the other nodes that may get jobs.
func (a *Agent) peerRooms() []qos.Room {
	if a.cluster == nil || !a.cluster.mesh.Settled() || !a.cluster.mesh.Quorate() {
		return nil
	}
	var list []qos.Room
	marks := a.marks()
	for _, m := range a.alive() {
		off := m.Meta.Draining || m.Meta.Held || marks[drainKey+m.Name] != "" || marks[holdNode+m.Name] != ""
		if !off && m.Meta.Hostname != "" {
			list = append(list, peerRoom(m))
		}
	}
	return list
}

// tellRoom puts what this node says of itself into its meta, in tenths of a CPU so that it changes seldom: room is never promised that there is not.
func (a *Agent) tellRoom(m *gossip.Meta) {
	if r := a.room.Load(); r != nil {
		m.HasRoom, m.Sold, m.Need = true, tenthsUp(r.Sold), tenthsUp(r.Need)
	}
}

func tenthsUp(cpus float64) float64 { return math.Ceil(cpus*10-1e-6) / 10 }
