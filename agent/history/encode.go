package history

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// version of the encoding.
const version = 1

// head stands before the lists.
type head struct {
	Version        uint8
	Nodes          uint8
	Late, Whole    uint16
	Changes, Runs  uint16
	Every, Skipped uint32
	Origin         int64 // milliseconds since 1970; 0: nothing was noted yet
}

// Encode is the form on disk and between nodes.
func (h *History) Encode() []byte {
	top := head{
		Version: version, Nodes: uint8(len(h.nodes)), Late: uint16(len(h.late)), Whole: uint16(len(h.whole)), Changes: uint16(len(h.changes)),
		Runs: uint16(len(h.runs)), Every: h.every, Skipped: h.skipped,
	}
	if !h.origin.IsZero() {
		top.Origin = h.origin.UnixMilli()
	}
	b := make([]byte, 0, h.Bytes())
	for _, part := range []any{top, h.late, h.whole, h.changes, h.runs} {
		b, _ = binary.Append(b, binary.LittleEndian, part) // of fixed size, all of them
	}
	for _, name := range h.nodes {
		b = append(append(b, uint8(len(name))), name...)
	}
	h.fresh = false
	return b
}

// Bytes is the size of the encoding. In memory the lists take the same, and as much again at most while they grow.
func (h *History) Bytes() int {
	n := binary.Size(head{}) + binary.Size(h.late) + binary.Size(h.whole) + binary.Size(h.changes) + binary.Size(h.runs)
	for _, name := range h.nodes {
		n += 1 + len(name)
	}
	return n
}

var errBroken = errors.New("no history of a job")

// Decode reads what Encode wrote.
func Decode(b []byte) (*History, error) {
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", errBroken, len(b), MaxBytes)
	}
	r := bytes.NewReader(b)
	var top head
	if err := binary.Read(r, binary.LittleEndian, &top); err != nil {
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	if top.Version != version {
		return nil, fmt.Errorf("%w: version %d", errBroken, top.Version)
	}
	if top.Late > lateReadings || top.Whole > wholeReadings || top.Changes > maxChanges || top.Runs > maxRuns || top.Nodes > maxNodes {
		return nil, fmt.Errorf("%w: longer than any can be", errBroken)
	}
	h := &History{
		late: make([]reading, top.Late), whole: make([]reading, top.Whole), changes: make([]change, top.Changes), runs: make([]run, top.Runs),
		every: top.Every, skipped: top.Skipped, mostLate: lateReadings, mostWhole: wholeReadings,
	}
	if top.Origin != 0 {
		h.origin = time.UnixMilli(top.Origin)
	}
	for _, list := range []any{h.late, h.whole, h.changes, h.runs} {
		if err := binary.Read(r, binary.LittleEndian, list); err != nil {
			return nil, fmt.Errorf("%w: %w", errBroken, err)
		}
	}
	for range top.Nodes {
		n, err := r.ReadByte()
		name := make([]byte, n)
		if _, short := r.Read(name); err != nil || short != nil || n == 0 {
			return nil, fmt.Errorf("%w: a node without a name", errBroken)
		}
		h.nodes = append(h.nodes, string(name))
	}
	if r.Len() > 0 {
		return nil, fmt.Errorf("%w: %d bytes too many", errBroken, r.Len())
	}
	return h, h.check()
}

// check refuses what no History can have come to.
func (h *History) check() error {
	byTime := func(x, y reading) int { return int(int64(x.At) - int64(y.At)) }
	switch {
	case !slices.IsSortedFunc(h.late, byTime), !slices.IsSortedFunc(h.whole, byTime),
		!slices.IsSortedFunc(h.changes, func(x, y change) int { return int(int64(x.At) - int64(y.At)) }),
		!slices.IsSortedFunc(h.runs, func(x, y run) int { return int(int64(x.Index) - int64(y.Index)) }):
		return fmt.Errorf("%w: out of order", errBroken)
	case len(h.whole) > 0 && (len(h.late) == 0 || h.whole[len(h.whole)-1].At > h.late[len(h.late)-1].At): // each was late once
		return fmt.Errorf("%w: out of order", errBroken)
	case h.origin.IsZero() && len(h.late)+len(h.whole)+len(h.changes)+len(h.runs) > 0:
		return fmt.Errorf("%w: without a beginning", errBroken)
	}
	for _, list := range [][]reading{h.late, h.whole} {
		for _, p := range list {
			for _, f := range []float32{p.Ratio, p.Used, p.Consumed, p.Desired, p.Allocation, p.Usage, p.Need, p.Margin} {
				if f != figure(float64(f)) {
					return fmt.Errorf("%w: a figure that is no number", errBroken)
				}
			}
		}
	}
	for _, r := range h.runs {
		if r.CPU != figure(float64(r.CPU)) || r.Mean != figure(float64(r.Mean)) {
			return fmt.Errorf("%w: a figure that is no number", errBroken)
		}
	}
	return nil
}
