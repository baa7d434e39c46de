package history

import (
	"cmp"
	"math"
	"slices"
	"time"

	"qosctl/qos"
)

// Bounds of a History.
const (
	lateReadings  = 120
	wholeReadings = 240 // even: it is halved
	maxChanges    = 64
	maxRuns       = 128
	maxNodes      = 15
	maxName       = 255 // bytes of a node's name

	// MaxBytes is the most that a History takes.
	MaxBytes = 24 << 10
)

// Tables of what is kept as a number. Codes are on disk: new ones come at the end. 0 is none, or one that this version doesn't know.
var (
	states   = []qos.State{"", qos.UnderPerformant, qos.OnPlan, qos.OverPerformant}
	outcomes = []qos.Outcome{"", qos.Met, qos.Missed, qos.Done, qos.Failed}
	phases   = []qos.Phase{
		"", qos.PhaseSubmitted, qos.PhasePending, qos.PhaseRunning, qos.PhaseSuspended, qos.PhaseEnded, qos.PhaseLost,
		qos.PhaseCompleted, qos.PhaseFailed, qos.PhaseCancelled,
	}
)

// lateBit of a reading's state says that the job was late.
const lateBit = 0x80

// reading is one look at a job. Times are tenths of a second since the history's origin.
type reading struct {
	At                      uint32
	Ratio                   float32
	Used, Consumed, Desired float32 // CPU seconds
	Allocation, Usage, Need float32 // CPUs
	Margin                  float32 // seconds
	Index                   uint16
	State                   uint8
	_                       uint8
}

type change struct {
	At    uint32
	Index uint32
	Part  uint16
	Phase uint8
	Node  uint8
}

type run struct {
	Index   uint32
	At      uint32 // of its start
	Tenths  uint32 // it lasted
	CPU     float32
	Mean    float32 // CPUs allotted
	Parts   uint16
	Outcome uint8
	_       uint8
}

// Reading is a look at a job.
type Reading struct {
	At                      time.Time
	Ratio                   float64
	Used, Consumed, Desired float64 // CPU seconds
	Allocation, Usage, Need float64 // CPUs
	Margin                  float64 // seconds from the deadline to the prediction
	State                   qos.State
	Late                    bool
	Index                   int // of the execution
}

// Change is where a job stands from a moment on.
type Change struct {
	At    time.Time
	Phase qos.Phase
	Node  string
	Index int
	Part  int // its incarnation
}

// History is what is kept of one job. It is guarded by whoever has it.
type History struct {
	origin  time.Time // that times count from
	late    []reading
	whole   []reading
	every   uint32 // of so many readings one goes into whole
	skipped uint32 // since the last that did
	changes []change
	runs    []run
	nodes   []string // code − 1
	fresh   bool     // there is something that was not encoded yet

	mostLate, mostWhole int // readings; whole is halved at an even number
}

// New makes a History of a job that was submitted then: nothing in it is older.
func New(submitted time.Time) *History {
	h := &History{mostLate: lateReadings, mostWhole: wholeReadings}
	if !submitted.IsZero() {
		h.origin = time.UnixMilli(submitted.UnixMilli())
	}
	return h
}

// Bound sets how many readings it has at most, a third of them of late; those that are too many are thinned out.
func (h *History) Bound(readings int) {
	h.mostLate, h.mostWhole = min(lateReadings, max(2, readings/3)), min(wholeReadings, max(2, readings/3*2))
	if n := len(h.late) - h.mostLate; n > 0 {
		h.late = slices.Clone(h.late[n:])
	}
	for len(h.whole) > h.mostWhole {
		h.halve()
		h.whole = slices.Clone(h.whole)
	}
}

// Add notes a reading. One that comes sooner after the last than least, and says nothing new of state or allocation, is left out.
func (h *History) Add(r Reading, least time.Duration) {
	p := reading{
		At: h.tenths(r.At), Ratio: figure(r.Ratio), Used: figure(r.Used), Consumed: figure(r.Consumed), Desired: figure(r.Desired),
		Allocation: figure(r.Allocation), Usage: figure(r.Usage), Need: figure(r.Need), Margin: figure(r.Margin),
		Index: uint16(min(max(r.Index, 0), math.MaxUint16)), State: code(states, r.State),
	}
	if r.Late {
		p.State |= lateBit
	}
	if n := len(h.late); n > 0 {
		last := h.late[n-1]
		same := last.State == p.State && last.Allocation == p.Allocation && last.Index == p.Index
		if p.At < last.At || p.At == last.At && same || same && p.At-last.At < uint32(least/tenth) {
			return // a clock that was set back: nothing is put before what is there
		}
		if n == h.mostLate {
			h.late = h.late[:copy(h.late, h.late[1:])]
		}
	}
	h.late = put(h.late, p, h.mostLate)
	h.fresh = true
	h.thin(p)
}

// thin takes one reading of every into whole.
func (h *History) thin(p reading) {
	h.every = max(h.every, 1)
	if h.skipped++; len(h.whole) > 0 && h.skipped < h.every {
		return
	}
	h.skipped = 0
	if len(h.whole) >= h.mostWhole {
		h.halve()
	}
	h.whole = put(h.whole, p, h.mostWhole)
}

// halve leaves every other reading of whole.
func (h *History) halve() {
	n := (len(h.whole) + 1) / 2
	for i := range n {
		h.whole[i] = h.whole[2*i]
	}
	h.whole = h.whole[:n]
	h.every = max(h.every, 1) * 2
}

// put appends to a list that gets most at most, and has no more room than that.
func put(list []reading, p reading, most int) []reading {
	if n := len(list); n == cap(list) {
		list = append(make([]reading, 0, max(n+1, min(most, 2*n+4))), list...)
	}
	return append(list, p)
}

// Enter notes where a job stands, if that is not where it stood.
func (h *History) Enter(c Change) {
	at := h.tenths(c.At)
	n := change{
		At: at, Index: uint32(min(max(c.Index, 0), math.MaxUint32)), Part: uint16(min(max(c.Part, 0), math.MaxUint16)),
		Phase: code(phases, c.Phase), Node: h.node(c.Node),
	}
	if k := len(h.changes); k > 0 {
		last := h.changes[k-1]
		n.At = max(n.At, last.At)
		if last.At = n.At; last == n {
			return
		}
		if k == maxChanges {
			h.changes = h.changes[:copy(h.changes, h.changes[1:])]
		}
	}
	h.changes = append(h.changes, n)
	h.fresh = true
}

// Ended notes runs that have ended, in order. Of one that is known the CPU time is taken anew: some is heard of late.
func (h *History) Ended(list []qos.Run) {
	for _, r := range list {
		n := run{
			Index: uint32(max(r.Index, 0)), At: h.tenths(r.Started), Tenths: uint32(max(r.Ended.Sub(r.Started), 0) / tenth), CPU: figure(r.CPU), Mean: figure(r.MeanCPUs),
			Parts: uint16(min(max(r.Parts, 1), math.MaxUint16)), Outcome: code(outcomes, r.Outcome),
		}
		i, known := slices.BinarySearchFunc(h.runs, n.Index, func(x run, index uint32) int { return cmp.Compare(x.Index, index) })
		switch {
		case known && h.runs[i].CPU == n.CPU:
			continue
		case known:
			h.runs[i].CPU = n.CPU
		case i == 0 && len(h.runs) == maxRuns:
			continue // older than all that is kept
		case len(h.runs) == maxRuns:
			h.runs = slices.Insert(h.runs[:copy(h.runs, h.runs[1:])], i-1, n)
		default:
			h.runs = slices.Insert(h.runs, i, n)
		}
		h.fresh = true
	}
}

// since is when the first reading or change was; zero: there is none.
func (h *History) since() (t time.Time) {
	if len(h.changes) > 0 {
		t = h.time(h.changes[0].At)
	}
	if len(h.whole) > 0 {
		if first := h.time(h.whole[0].At); t.IsZero() || first.Before(t) {
			t = first
		}
	}
	return t
}

// Fresh says whether something was noted since Encode.
func (h *History) Fresh() bool { return h.fresh }

// Again makes what was encoded count as new: it did not get where it should.
func (h *History) Again() { h.fresh = true }

const tenth = 100 * time.Millisecond

// tenths is t on the history's scale; what is before its origin counts as that.
func (h *History) tenths(t time.Time) uint32 {
	if h.origin.IsZero() {
		h.origin = time.UnixMilli(t.UnixMilli())
	}
	return uint32(min(max(t.Sub(h.origin)/tenth, 0), math.MaxUint32))
}

func (h *History) time(tenths uint32) time.Time {
	return h.origin.Add(time.Duration(tenths) * tenth)
}

// node is the code of a node's name; 0: none, or there are too many.
func (h *History) node(name string) uint8 {
	if name == "" || len(name) > maxName {
		return 0
	}
	i := slices.Index(h.nodes, name)
	if i < 0 && len(h.nodes) < maxNodes {
		i = len(h.nodes)
		h.nodes = append(h.nodes, name)
	}
	return uint8(i + 1)
}

func (h *History) nodeName(code uint8) string {
	if code == 0 || int(code) > len(h.nodes) {
		return ""
	}
	return h.nodes[code-1]
}

// figure makes a number one that JSON and a plot can show.
func figure(f float64) float32 {
	if math.IsNaN(f) {
		return 0
	}
	return float32(min(max(f, -math.MaxFloat32), math.MaxFloat32))
}

func code[T comparable](table []T, v T) uint8 { return uint8(max(slices.Index(table, v), 0)) }

func word[T any](table []T, c uint8) (v T) {
	if int(c) < len(table) {
		v = table[c]
	}
	return v
}
