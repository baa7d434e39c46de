package cli

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"qosctl/agent/api"
	"qosctl/qos"
)

func TestALineIsEvenInTimeAndEmptyWhereNothingWasRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		at     []int64
		values []float32
		width  int
		want   string
	}{
		{"nothing", nil, nil, 4, "    "},
		{"one reading", []int64{5}, []float32{3}, 4, "   ▄"},
		{"rising", []int64{0, 1, 2, 3}, []float32{0, 1, 2, 3}, 4, "▁▃▆█"},
		{"readings further apart than places", []int64{0, 2, 4, 6}, []float32{0, 0, 7, 7}, 7, "▁▁▁▁███"},
		{"a long silence", []int64{0, 1, 2, 3, 4, 5, 30, 31, 32, 33, 34, 35}, []float32{1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0}, 36, "██████████████" + strings.Repeat(" ", 8) + "████████▁▁▁▁▁▁"},
	} {
		low, high := float32(0), float32(0)
		if len(c.values) > 0 {
			low, high = ends(c.values)
		}
		got := overTime(c.at, c.values, c.width, low, high)
		if utf8.RuneCountInString(got) != c.width {
			t.Errorf("%s: %d places, want %d", c.name, utf8.RuneCountInString(got), c.width)
		}
		if c.name == "a long silence" {
			if !strings.Contains(got, "  ") || !strings.HasPrefix(got, "██████") || !strings.HasSuffix(got, "▁▁▁▁▁▁") {
				t.Errorf("%s: %q", c.name, got)
			}
			continue
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestAJobsLifeFitsTheTerminal(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	j := api.Job{
		Name: "linpack", Phase: qos.PhaseRunning, State: qos.OnPlan, Owner: "node1", Iterations: 4, Allocation: 0.5, Progress: 5, QoS: qos.QoS{Duration: 10},
		Started: now.Add(-time.Minute), Deadline: now.Add(time.Minute), Tally: qos.Tally{Succeeded: 2},
	}
	h := api.History{Runs: []api.PastRun{{Index: 1, Seconds: 20, CPU: 10}, {Index: 2, Seconds: 40, CPU: 11}}}
	for i := range 12 {
		v := float32(i)
		h.At = append(h.At, now.Add(time.Duration(5*i-60)*time.Second).UnixMilli())
		h.Ratio, h.Margin, h.Used, h.Desired = append(h.Ratio, 0.9+v/100), append(h.Margin, -v), append(h.Used, v), append(h.Desired, v+1)
		h.Allocation, h.Usage, h.Need = append(h.Allocation, 0.5), append(h.Usage, 0.4), append(h.Need, 0.45)
	}
	x := api.Explanation{}
	for i := range 30 {
		x.Decisions = append(x.Decisions, qos.Decision{At: now.Add(time.Duration(i-30) * time.Second), Rule: "keep", Reason: "needs little"})
	}
	v := topView{live: true, size: func() (int, int) { return 90, 24 }}
	drawn := v.redraw(jobText(j, h, x, now, 90, 24))
	lines := strings.Split(strings.TrimSuffix(strings.ReplaceAll(drawn, "\x1b[K", ""), "\n\x1b[J"), "\n")
	if len(lines) > 23 {
		t.Errorf("%d lines, of 24 in the terminal", len(lines))
	}
	for _, l := range lines {
		if n := utf8.RuneCountInString(l); n > 90 {
			t.Errorf("%d places: %s", n, l)
		}
	}
	for _, want := range []string{
		"linpack  Running  ON_PLAN  node1", "progress ratio                1.01", "0.90 … 1.01", "prediction − deadline         -11s", "runs 1 to 2: time           40.0 s  ▅█", "CPU time       11.0 s  ▇█",
		"CPUs allocated                0.50  █", "keep  needs little",
	} {
		if !strings.Contains(drawn, want) {
			t.Errorf("lacks %q:\n%s", want, strings.Join(lines, "\n"))
		}
	}
	narrow := v.redraw(jobText(j, h, x, now, 40, 10))
	if strings.Count(narrow, "\n") > 23 {
		t.Errorf("in a small terminal:\n%s", narrow)
	}
	if jobText(j, api.History{}, api.Explanation{}, now, 80, 24) == "" {
		t.Error("of a job without a history nothing is shown")
	}
}

func TestTopShowsTheNodesOfACluster(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	v := topView{history: map[string][]float64{}}
	peers := []api.Peer{{Name: "a", State: "alive", CPUs: 2, Allocated: 1, Headroom: 0.5, Jobs: 3}, {Name: "b", State: "dead", CPUs: 4}, {Name: "c", State: "alive", Draining: "new disks"}}
	if err := v.draw(&b, api.Node{Name: "a"}, nil, peers, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a  [██████████··········]  1.00 of 2.00 CPUs  0.50 free  3 jobs  -", "b  [····················]  0.00 of 4.00 CPUs  0.00 free  0 jobs  dead", "draining", "no live jobs"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %q:\n%s", want, b.String())
		}
	}
	b.Reset()
	if err := v.draw(&b, api.Node{Name: "a"}, nil, peers[:1], time.Now()); err != nil || strings.Contains(b.String(), "██") {
		t.Errorf("of one node: %v\n%s", err, b.String())
	}
}
