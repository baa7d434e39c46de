package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/qos"
)

// ran is a Chronos job of two iterations that ended at the given seconds, as the agent shows it.
func ran(outcome qos.Outcome, at time.Time, ends ...float64) api.Job {
	j := api.Job{Name: "openmpLinpack1", Phase: qos.PhaseCompleted, Outcome: outcome, Iterations: 2, Submitted: at}
	start := at
	for i, s := range ends {
		end := at.Add(time.Duration(s * float64(time.Second)))
		j.Runs = append(j.Runs, qos.Run{Index: i + 1, Started: start, Ended: end, CPU: 2, Outcome: qos.Done, MeanCPUs: 0.5, MaxCPUs: 0.7})
		j.Tally.CPU += 2
		j.Tally.Succeeded++
		start = end
	}
	return j
}

func TestJudge(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	two := job{thesisJob: thesisJob{file: "openmpLinpack1", iterations: 2}, seconds: 10}
	failed := ran(qos.Met, now, 4, 6, 8)
	failed.Runs[1].ExitCode, failed.Runs[1].Outcome = 1, qos.Failed
	own := func(cpu ...float64) (all []usage) {
		for _, c := range cpu {
			all = append(all, usage{CPU: c})
		}
		return all
	}
	for _, tc := range []struct {
		name  string
		job   api.Job
		own   []usage
		met   bool
		wrong string
	}{
		{"in time", ran(qos.Met, now, 4, 8), own(2, 1.99), true, ""},
		{"too late", ran(qos.Missed, now, 4, 12), own(2, 2), false, ""},
		{"said to be met", ran(qos.Met, now, 4, 12), own(2, 2), false, `calls it "met"`},
		{"account differs", ran(qos.Met, now, 4, 8), own(2, 1.8), true, "linpack's own count 3.800"},
		{"a report is missing", ran(qos.Met, now, 4, 8), own(4), true, "linpack ended 1 times"},
		{"once too often", ran(qos.Met, now, 4, 8, 9), own(2, 2, 2), true, "3 runs ended well"},
		{"a failed iteration does not count", failed, own(3, 3), true, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := judge(two, tc.job, tc.own, now)
			if r.Met != tc.met || !strings.Contains(r.Wrong, tc.wrong) || (tc.wrong == "") != (r.Wrong == "") {
				t.Errorf("met %t wrong %q, want %t %q", r.Met, r.Wrong, tc.met, tc.wrong)
			}
		})
	}
}

func TestExitCodeAndTable(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		jobs []jobResult
		code int
		text string
	}{
		{[]jobResult{{Met: true, Finished: 1}}, exitMet, "1 of 1 deadlines met"},
		{[]jobResult{{Met: true, Finished: 1}, {}}, exitMissed, "1 of 2 deadlines met"},
		{[]jobResult{{Met: true, Finished: 1, Wrong: "sums"}, {}}, exitError, "WRONG: sums"},
	} {
		r := result{Policy: "deadline", Jobs: tc.jobs}
		var out bytes.Buffer
		if err := r.writeTable(&out); err != nil {
			t.Fatal(err)
		}
		if r.exitCode() != tc.code || !strings.Contains(out.String(), tc.text) {
			t.Errorf("exit %d, want %d; table\n%s\nwant %q in it", r.exitCode(), tc.code, &out, tc.text)
		}
	}
}

func TestLineAndTableNameEachJob(t *testing.T) {
	t.Parallel()
	now := time.Now()
	jobs := []api.Job{
		ran(qos.Met, now, 4, 8),
		{Name: "/openmplinpack1", Phase: qos.PhaseRunning, Allocation: 0.4, State: qos.UnderPerformant, Consumed: 1.5, Late: true},
		{Name: "openmpLinpack3", Phase: qos.PhasePending, Iterations: 13},
	}
	if got, want := line(5*time.Second, jobs), "  5.0 s   c1 2/2 met  m1 0/1 0.40-  c3 0/13 Pending"; got != want {
		t.Errorf("line %q, want %q", got, want)
	}
	text := table(now, now, jobs)
	if n := strings.Count(text, "\n"); n != len(jobs)+1 {
		t.Errorf("table has %d lines, want %d:\n%s", n, len(jobs)+1, text)
	}
	for _, want := range []string{"met", "UNDER_PERFORMANT late", "1.5", "Pending"} {
		if !strings.Contains(text, want) {
			t.Errorf("table lacks %q:\n%s", want, text)
		}
	}
}

func TestChaosMomentsAreThoseOfTheSeed(t *testing.T) {
	t.Parallel()
	moments := func(seed uint64) []time.Duration {
		return newChaos(options{chaos: 20, seed: seed, seconds: 100 * time.Second}, nil).moments
	}
	a, b, c := moments(1), moments(1), moments(2)
	if len(a) != 20 || a[0] < 2*time.Second || a[19] > 75*time.Second {
		t.Errorf("moments %v", a)
	}
	if a[0] != b[0] || a[19] != b[19] || a[0] == c[0] {
		t.Errorf("moments of seed 1: %v and %v; of seed 2: %v", a, b, c)
	}
}
