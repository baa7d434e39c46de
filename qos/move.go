package qos

import (
	"fmt"
	"math"
	"time"
)

// Move is a job that had better go on on another node.
type Move struct {
	Job     string  `json:"job"`
	To      string  `json:"to"`      // node
	Request float64 `json:"request"` // fitted to the offer there
	Reason  string  `json:"reason"`
}

const (
	crowdedLooks = 3    // looks in a row that prove a node's jobs need more than it has
	moveShare    = 0.10 // of the time that a job stays on a node may be lost to moving it there
	moveGain     = 0.15 // CPUs that a move must better the fuller of the two nodes by, where the other has not all that the job needs
)

// Relocate chooses the job of a node that gains most by a move, if any does. here and others are what the nodes say of themselves;
// cost is the seconds that a move takes a job, by its place in the view; +Inf: it can't be moved.
//
// A job moves only if its node's jobs have needed more than there is for some looks, or if the node has given it up; if another node
// has what it needs after the time that the move takes, or is at least less crowded by moveGain; and if it will stay there ten times
// as long as the move takes.
func Relocate(n NodeView, decisions []Decision, here Room, others []Room, cost []float64) (Move, bool) {
	var best Move
	most := 0.0
	for i, d := range decisions {
		v := n.Jobs[i]
		if !d.mayMove(v, n.Now, cost[i]) {
			continue
		}
		left := v.Deadline.Sub(n.Now).Seconds()
		need := min(max(d.Bare*left/(left-cost[i]), v.Min), v.Max)
		w := Wish{Job: v.ID, Need: need, Request: min(need, v.Request), Min: v.Min}
		if v.Firm {
			w.Request, w.Min = v.Request, v.Request
		}
		p, ok := Place(w, others)
		if !ok {
			continue
		}
		to := roomOf(others, p.Node)
		gain := min(need, -here.Spare())
		switch {
		case gain <= hair:
			continue
		case !p.Fits && to.Spare()-need < here.Spare()+moveGain:
			continue
		case !p.Fits:
			gain = min(gain, to.Spare()-need-here.Spare())
		}
		if gain > most {
			most = gain
			best = Move{Job: v.ID, To: p.Node, Request: p.Request, Reason: fmt.Sprintf(
				"needs %.2f CPUs; the jobs here need %.2f of %.2f, those of %s %.2f of %.2f; a move takes %.0f s of the %.0f left",
				d.Bare, here.Need, here.CPUs, p.Node, to.Need, to.CPUs, cost[i], left)}
		}
	}
	return best, most > 0
}

// mayMove says whether a move is worth thinking of.
func (d Decision) mayMove(v JobView, now time.Time, cost float64) bool {
	left := v.Deadline.Sub(now).Seconds()
	stay := left // it will not run longer than its deadline, if the move is to be of any use
	switch {
	case math.IsInf(cost, 0) || math.IsNaN(cost) || cost < 0 || left <= 0 || cost > moveShare*stay:
		return false
	case d.Hopeless || d.Late && now.After(v.Deadline):
		return false
	case !v.Placed.IsZero() && now.Sub(v.Placed).Seconds()*moveShare < cost:
		return false
	}
	return d.Lost || d.Memory.Crowded >= crowdedLooks
}

func roomOf(rooms []Room, node string) Room {
	for _, r := range rooms {
		if r.Node == node {
			return r
		}
	}
	return Room{}
}
