package qos

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPlaceTakesTheNodeThatHasWhatTheJobNeeds(t *testing.T) {
	t.Parallel()
	rooms := []Room{
		{Node: "a", CPUs: 2, Sold: 1, Need: 1.5, Jobs: 1},
		{Node: "b", CPUs: 2, Sold: 0.5, Need: 0.5, Jobs: 1},
		{Node: "c", CPUs: 2, Sold: 2, Need: 0.2, Jobs: 4},
		{Node: "d", CPUs: 2, Sold: 0.5, Need: 0.5, Jobs: 2},
	}
	for _, tt := range []struct {
		name    string
		w       Wish
		node    string
		request float64
		fits    bool
	}{
		{"most to spare, and of equals the fewest jobs", Wish{Need: 1, Request: 0.7, Min: 0.1}, "b", 0.7, true},
		{"where it was, if that is enough", Wish{Need: 0.5, Request: 0.5, Min: 0.1, At: "a"}, "a", 0.5, true},
		{"not where it was, if that is too little", Wish{Need: 1, Request: 0.5, Min: 0.1, At: "a"}, "b", 0.5, true},
		{"a request that is fitted to half the offer", Wish{Need: 1, Request: 2, Min: 0.1}, "b", 0.75, true},
		{"but not below the minimum", Wish{Need: 1, Request: 2, Min: 1.2}, "b", 1.2, true},
		{"nobody has what it needs", Wish{Need: 1.8, Request: 0.5, Min: 0.1}, "b", 0.5, false},
	} {
		p, ok := Place(tt.w, rooms)
		if !ok || p.Node != tt.node || math.Abs(p.Request-tt.request) > 1e-9 || p.Fits != tt.fits {
			t.Errorf("%s: %+v, %t", tt.name, p, ok)
		}
	}
	if p, ok := Place(Wish{Need: 1, Request: 1, Min: 1.8}, rooms); ok {
		t.Errorf("no offer is large enough: %+v", p)
	}
}

func genRooms(t *rapid.T) []Room {
	var rooms []Room
	for i := range rapid.IntRange(0, 6).Draw(t, "nodes") {
		r := Room{Node: fmt.Sprintf("n%d", i), CPUs: 2}
		r.Sold = rapid.Float64Range(0, 2).Draw(t, "sold")
		r.Need = rapid.Float64Range(0, 4).Draw(t, "need")
		r.Jobs = rapid.IntRange(0, 4).Draw(t, "jobs")
		rooms = append(rooms, r)
	}
	return rooms
}

func TestAPlacementIsNeverMoreThanTheOffer(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rooms := genRooms(t)
		w := Wish{
			Need: rapid.Float64Range(0, 3).Draw(t, "need"), Request: rapid.Float64Range(0.1, 3).Draw(t, "request"),
			Min: rapid.Float64Range(0.05, 0.5).Draw(t, "min"),
		}
		p, ok := Place(w, rooms)
		fit := false
		for _, r := range rooms {
			fit = fit || r.Offer() >= w.Min
			if ok && r.Node == p.Node && p.Request > max(r.Offer(), w.Min)+hair {
				t.Fatalf("%+v of %+v", p, r)
			}
			if ok && !p.Fits && r.Spare() >= w.Need+0.05 && r.Offer() >= w.Min {
				t.Fatalf("%s would fit, %s was chosen", r.Node, p.Node)
			}
		}
		if ok != fit {
			t.Fatalf("placed: %t, there is an offer: %t", ok, fit)
		}
	})
}

// crowd is a node of 2 CPUs with two jobs that need more than it has, for three looks.
func crowd(t *testing.T, change func(*JobView)) (NodeView, []Decision) {
	t.Helper()
	n := NodeView{Now: at(50), CPUs: 2, Borrow: true}
	for _, id := range []string{"a", "b"} {
		n.Jobs = append(n.Jobs, job(func(v *JobView) {
			v.ID, v.Runs, v.RunsLeft, v.Deadline = id, 60, 55, at(550)
			v.Model = Model{A: 4, B: 8, Work: 12, N: 20, ZZ: 1}
			v.Placed = at(-1000)
			if change != nil {
				change(v)
			}
		}))
	}
	pol := mustPolicy(t, PolicyDeadline)
	var d []Decision
	for range 4 {
		d = pol.Decide(n)
		for i := range d {
			n.Jobs[i].Memory = d[i].Memory
		}
	}
	return n, d
}

func TestAJobMovesOnlyWhereItGains(t *testing.T) {
	t.Parallel()
	n, d := crowd(t, nil)
	here := RoomOf("here", n, d)
	if here.Spare() >= 0 {
		t.Fatalf("the node isn't crowded: %+v, %+v", here, d)
	}
	free, full := Room{Node: "free", CPUs: 2}, Room{Node: "full", CPUs: 2, Sold: 1, Need: 2.4}
	inf := math.Inf(1)
	for _, tt := range []struct {
		name   string
		others []Room
		cost   []float64
		now    time.Time
		want   string
	}{
		{"to a free node", []Room{full, free}, []float64{15, 15}, n.Now, "free"},
		{"not to one that is as full", []Room{full}, []float64{15, 15}, n.Now, ""},
		{"nowhere", nil, []float64{15, 15}, n.Now, ""},
		{"not if it can't be moved", []Room{free}, []float64{inf, inf}, n.Now, ""},
		{"not if that takes too much of what is left", []Room{free}, []float64{60, 60}, n.Now, ""},
	} {
		n.Now = tt.now
		m, ok := Relocate(n, d, here, tt.others, tt.cost)
		if ok != (tt.want != "") || m.To != tt.want || ok && m.Reason == "" {
			t.Errorf("%s: %+v, %t", tt.name, m, ok)
		}
	}
	n, d = crowd(t, func(v *JobView) { v.Placed = at(0) })
	if m, ok := Relocate(n, d, here, []Room{free}, []float64{15, 15}); ok {
		t.Errorf("it has come 50 s ago: %+v", m)
	}
	n, d = crowd(t, func(v *JobView) { v.RunsLeft = 10 })
	if m, ok := Relocate(n, d, RoomOf("here", n, d), []Room{free}, []float64{15, 15}); ok {
		t.Errorf("the node has room: %+v", m)
	}
}

func TestMovesNeverMakeTheFullerNodeFuller(t *testing.T) {
	t.Parallel()
	pol := mustPolicy(t, PolicyDeadline)
	rapid.Check(t, func(t *rapid.T) {
		n := genNode().Draw(t, "node")
		for i := range n.Jobs {
			n.Jobs[i].Memory.Crowded = 3
		}
		d := pol.Decide(n)
		for i := range d {
			d[i].Memory.Crowded = 3
		}
		here, others := RoomOf("here", n, d), genRooms(t)
		cost := make([]float64, len(d))
		m, ok := Relocate(n, d, here, others, cost)
		if !ok {
			return
		}
		for i := range d {
			if d[i].Job != m.Job {
				continue
			}
			wanted := Wanted(d[i], n.Jobs[i])
			if to := roomOf(others, m.To); to.Spare()-wanted < min(here.Spare(), 0)-hair {
				t.Fatalf("%s goes from %+v to %+v with a need of %g", m.Job, here, to, wanted)
			}
			if d[i].Hopeless {
				t.Fatalf("%s is hopeless and moves", m.Job)
			}
			return
		}
		t.Fatalf("%s isn't here", m.Job)
	})
}

func TestAmongNamesWhoHasWhatAJobNeeds(t *testing.T) {
	t.Parallel()
	idle, lent := Room{Node: "idle", CPUs: 2}, Room{Node: "lent", CPUs: 2, Sold: 1, Need: 0.2, Jobs: 1}
	full, sold := Room{Node: "full", CPUs: 2, Sold: 1, Need: 1.9, Jobs: 3}, Room{Node: "sold", CPUs: 2, Sold: 1.8, Need: 0.3, Jobs: 2}
	w := Wish{Need: 1, Request: 0.5, Min: 0.5}
	for what, tt := range map[string]struct {
		rooms []Room
		want  []string
	}{
		"who needs all it has is left out": {[]Room{idle, lent, full}, []string{"idle", "lent"}},
		"who can't be offered it is":       {[]Room{lent, sold}, []string{"lent"}},
		"all have it: any":                 {[]Room{idle, lent}, nil},
		"none has it: the least bad":       {[]Room{full, {Node: "fuller", CPUs: 2, Sold: 1, Need: 3}}, []string{"full"}},
		"none can be offered it: any":      {[]Room{sold}, nil},
		"no node":                          {nil, nil},
	} {
		if got := Among(w, tt.rooms); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", what, got, tt.want)
		}
	}
}

func TestAFirmRequestIsMovedAsItIs(t *testing.T) {
	t.Parallel()
	t0 := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	v := JobView{ID: "a", Request: 1, Min: 0.1, Max: 2, Deadline: t0.Add(time.Hour), Allocation: 1}
	n := NodeView{Now: t0, CPUs: 2, Jobs: []JobView{v}}
	d := []Decision{{Job: "a", Bare: 1, Memory: Memory{Crowded: crowdedLooks}}}
	here, tight := Room{Node: "here", CPUs: 2, Need: 3}, Room{Node: "tight", CPUs: 2, Sold: 1.5}
	if m, ok := Relocate(n, d, here, []Room{tight}, []float64{1}); !ok || m.Request > 0.5 {
		t.Errorf("a request that may be fitted: %+v, %v", m, ok)
	}
	n.Jobs[0].Firm = true
	if m, ok := Relocate(n, d, here, []Room{tight}, []float64{1}); ok {
		t.Errorf("a firm one does not fit, and is moved: %+v", m)
	}
	if m, ok := Relocate(n, d, here, []Room{{Node: "wide", CPUs: 2, Sold: 0.9}}, []float64{1}); !ok || m.Request != 1 {
		t.Errorf("a firm one that fits: %+v, %v", m, ok)
	}
}

func TestASoundModelIsTold(t *testing.T) {
	t.Parallel()
	var m Model
	if m.Sound() {
		t.Error("nothing was seen")
	}
	m.Observe(10, 1.5, 12)
	if !m.Sound() {
		t.Errorf("%+v was learnt", m)
	}
	for _, bad := range []func(*Model){
		func(m *Model) { m.Work = math.NaN() }, func(m *Model) { m.A = -1 }, func(m *Model) { m.B = 2 * m.Work }, func(m *Model) { m.N = 0 },
		func(m *Model) { m.Dev = 2 }, func(m *Model) { m.ZY = math.Inf(1) }, func(m *Model) { m.Work = 1e12 },
	} {
		b := m
		if bad(&b); b.Sound() {
			t.Errorf("%+v is sound", b)
		}
	}
}
