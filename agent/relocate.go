package agent

import (
	"math"
	"time"

	"qosctl/qos"
)

// Where a node has no room for what its jobs need, resize auto moves one of them to a node that has: qos.Relocate chooses, the framework
// carries it out (migrate.go).

const resizeAuto = "auto"

// moveCost is what a move takes a job, in seconds: a checkpoint, a deployment, a restore. A job that was moved stays ten times as long.
const moveCost = 15.0

// spare is the most CPUs that another node has for a job.
func (a *Agent) spare() float64 {
	most := 0.0
	for _, r := range a.rooms() {
		most = max(most, r.Spare())
	}
	return most
}

// rooms are the other nodes that this one may move jobs to.
func (a *Agent) rooms() []qos.Room {
	if a.cfg.Control.Resize != resizeAuto {
		return nil
	}
	return a.peerRooms()
}

// moveAway moves the job that gains most by it, if any does. At most one of a node is on its way at a time.
func (a *Agent) moveAway(l look, held map[string]*job, now time.Time) {
	n, decisions := l.view, l.decisions
	rooms := a.rooms()
	if len(rooms) == 0 || a.cfg.Control.Mode != modeAct || len(decisions) != len(n.Jobs) {
		return
	}
	cost := make([]float64, len(n.Jobs))
	for i, v := range n.Jobs {
		j := held[v.ID]
		j.mu.Lock()
		v.Firm = true // what it was sold goes with it
		n.Jobs[i] = v
		moving, movable := j.row.Local.Move != nil, a.movable(j) == nil && a.keeps(j) && now.After(j.noMove)
		j.mu.Unlock()
		if moving {
			return
		}
		if cost[i] = math.Inf(1); movable {
			cost[i] = a.moveCost
		}
	}
	m, ok := qos.Relocate(n, decisions, qos.RoomOf(a.node, n, decisions), rooms, cost)
	if !ok {
		return
	}
	j := held[m.Job]
	to, _, err := a.migrate(j, m.To, m.Reason)
	if err == nil {
		a.log.Info("job moved for want of CPUs", "job", j.spec().Name, "to", to.Name, "why", m.Reason)
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.noMove = now.Add(a.cfg.Control.MoveTimeout)
	j.note(now, "move", "it had better be on node %s (%s), but: %s", m.To, m.Reason, err)
}
