package qos

import "cmp"

// Room is what a node says of itself to the others, so that jobs are launched and moved where they fit. It is gossiped, so it is some
// seconds old.
type Room struct {
	Node string  `json:"node"`
	CPUs float64 `json:"cpus"` // that jobs may have: the node's CPUs less the reserve
	Sold float64 `json:"sold"` // by Mesos, to anything
	Need float64 `json:"need"` // of its jobs together, to be in time, and of what Mesos has sold to others
	Jobs int     `json:"jobs"`
}

// Offer is what Mesos can still sell there.
func (r Room) Offer() float64 { return r.CPUs - r.Sold }

// Spare is what nobody there needs.
func (r Room) Spare() float64 { return r.CPUs - r.Need }

// RoomOf sums a node up from its view and what was decided for it.
func RoomOf(node string, n NodeView, decisions []Decision) Room {
	r := Room{Node: node, CPUs: n.CPUs, Sold: n.Sold, Need: n.Sold, Jobs: len(n.Jobs)}
	for i, d := range decisions {
		r.Sold += n.Jobs[i].Request
		r.Need += Wanted(d, n.Jobs[i])
	}
	return r
}

// Wanted is what a job counts for in its node's Need: what it needs without margins, or its minimum if nothing can save it. One that
// the overload rule has given up counts in full: it may yet be saved, here or elsewhere.
func Wanted(d Decision, v JobView) float64 {
	if d.Hopeless {
		return v.Min
	}
	return max(min(d.Bare, v.Max), v.Min)
}

// Wish is a job that is to be launched.
type Wish struct {
	Job     string
	Need    float64 // CPUs to be in time; a lost job: its minimum
	Request float64 // CPUs that it is to be sold, if they are there
	Min     float64 // least request
	At      string  // node that it was on last; "": none
}

// Placement is where a job is to be launched, and with what request.
type Placement struct {
	Node    string
	Request float64
	Fits    bool // the node has what it needs
}

// Place chooses a node for a job, of those that can be offered its minimum: where it was, if that has what it needs; else where most
// is to spare, and of equals where the fewest jobs are. The request is fitted to the offer, since a launch that waits for a large
// offer loses more than CPUs that are lent do. ok is false where there is no offer.
func Place(w Wish, rooms []Room) (p Placement, ok bool) {
	var best Room
	for _, r := range rooms {
		if r.Offer() < w.Min-hair {
			continue
		}
		if !ok || better(w, r, best) {
			best, ok = r, true
		}
	}
	if !ok {
		return Placement{}, false
	}
	request := max(min(w.Request, best.Offer()/2), w.Min)
	return Placement{Node: best.Node, Request: request, Fits: best.Spare() >= w.Need-hair}, true
}

// better says whether a job had rather be launched in a than in b.
func better(w Wish, a, b Room) bool {
	home := func(r Room) int {
		if r.Node == w.At && r.Spare() >= w.Need-hair {
			return 0
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(home(a), home(b)),
		cmp.Compare(floorTo(b.Spare(), 0.05), floorTo(a.Spare(), 0.05)),
		cmp.Compare(a.Jobs, b.Jobs),
		cmp.Compare(a.Node, b.Node),
	) < 0
}

// Among returns the nodes that a job had better be launched on, for a framework that chooses among its offers by itself: those that can be
// offered its least request and have what it needs; if there are none, the one that Place names. nil: any, since all do, or none can be
// offered.
func Among(w Wish, rooms []Room) []string {
	var fit []string
	for _, r := range rooms {
		if r.Offer() >= w.Min-hair && r.Spare() >= w.Need-hair {
			fit = append(fit, r.Node)
		}
	}
	switch p, ok := Place(w, rooms); {
	case len(fit) == len(rooms), !ok:
		return nil
	case len(fit) == 0:
		return []string{p.Node}
	}
	return fit
}
