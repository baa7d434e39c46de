package monasca

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// look finds out which measurements of a batch arrived whose answer was lost: whatever Monasca takes of one request it takes whole, and
// we send in order. That something is not found proves little, since Monasca stores later than it answers: it is looked for again.
func (s *Sender) look(ctx context.Context, d *delivery) time.Duration {
	arrived, a := s.arrived(ctx, d)
	switch {
	case arrived > 0:
		s.log.Info("what was sent to Monasca before its answer was lost has arrived", "measurements", arrived)
		s.count(func(v *Stats) { v.Found += arrived })
		s.went(d, arrived)
		d.doubt, d.prefix = 0, false
		return 0
	case a.verdict == later:
		return s.failAfter(Retrying, s.fault(a), a.after)
	case a.verdict == expired && !s.renewed:
		s.session.drop()
		s.renewed = true
		return 0
	case a.verdict != taken:
		s.blind = true
		s.log.Debug("this user can't look up in Monasca what arrived: after a lost answer it is sent again", "err", s.fault(a))
		return 0
	}
	s.renewed = false
	if d.looks++; d.looks < maxLooks {
		return lookDelay
	}
	return 0
}

// arrived is how many measurements at a batch's front are found in Monasca.
func (s *Sender) arrived(ctx context.Context, d *delivery) (int, answer) {
	found, a := s.stored(ctx, d.lines[0])
	if !found || !d.prefix {
		if found {
			return d.doubt, a
		}
		return 0, a
	}
	low, high := 1, d.doubt // the first low are there; those from high on are not looked for
	for low < high {
		mid := (low + high + 1) / 2
		found, a := s.stored(ctx, d.lines[mid-1])
		switch {
		case a.verdict != taken:
			return low, a
		case found:
			low = mid
		default:
			high = mid - 1
		}
	}
	return low, a
}

// stored looks for one measurement in Monasca.
func (s *Sender) stored(ctx context.Context, line []byte) (bool, answer) {
	var w wire
	if err := json.Unmarshal(line, &w); err != nil { // it passed our check when it was written
		return false, answer{verdict: refused, text: err.Error()}
	}
	body, a := s.session.call(ctx, http.MethodGet, "metrics/measurements?"+w.query().Encode(), nil)
	if a.verdict != taken {
		return false, a
	}
	return slices.Contains(parseTimes(body), w.Timestamp), a
}

// query asks for the measurements of a series in the second that begins with this one.
func (w wire) query() url.Values {
	const form = "2006-01-02T15:04:05.000Z"
	at := time.UnixMilli(w.Timestamp).UTC()
	var dims []string
	for _, k := range slices.Sorted(maps.Keys(w.Dimensions)) {
		dims = append(dims, k+":"+w.Dimensions[k])
	}
	return url.Values{
		"name": {w.Name}, "dimensions": {strings.Join(dims, ",")}, "merge_metrics": {"true"},
		"start_time": {at.Format(form)}, "end_time": {at.Add(time.Second).Format(form)},
	}
}

// parseTimes reads the timestamps, in ms, of an answer to a query for measurements. What it does not understand has none.
func parseTimes(body []byte) []int64 {
	var page struct {
		Elements []struct {
			Measurements [][]json.RawMessage `json:"measurements"`
		} `json:"elements"`
	}
	if json.Unmarshal(body, &page) != nil {
		return nil
	}
	var times []int64
	for _, e := range page.Elements {
		for _, m := range e.Measurements {
			var text string
			if len(m) == 0 || json.Unmarshal(m[0], &text) != nil {
				continue
			}
			if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
				times = append(times, t.UnixMilli())
			}
		}
	}
	return times
}
