package agent

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/qos"
)

func TestFollow(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	marathon := qos.Spec{Framework: qos.Marathon, QoS: qos.QoS{Executions: 2, MaxFailures: 2}}
	forever := qos.Spec{Framework: qos.Marathon}
	chronos := qos.Spec{Framework: qos.Chronos, Iterations: 3, QoS: qos.QoS{MaxFailures: 2}}
	byChronos := qos.Spec{Framework: qos.Chronos, Iterations: 3, QoS: qos.QoS{IterationsBy: qos.IterationsByChronos}}
	intime, late := now.Add(time.Second), now.Add(-time.Second)
	for _, c := range []struct {
		name     string
		spec     qos.Spec
		deadline time.Time
		tally    qos.Tally
		intent   qos.Intent
		failures int
		inARow   int
		e        ending
		want     consequence
	}{
		{"first execution in time", marathon, intime, qos.Tally{}, "", 0, 0, ending{}, consequence{Outcome: qos.Met, Phase: qos.PhaseEnded}},
		{"last execution late", marathon, late, qos.Tally{Succeeded: 1}, "", 0, 0, ending{}, consequence{Outcome: qos.Missed, Phase: qos.PhaseCompleted, Delete: true}},
		{"execution failed", marathon, intime, qos.Tally{Succeeded: 1}, "", 0, 0, ending{Code: 1}, consequence{Outcome: qos.Failed, Phase: qos.PhaseEnded}},
		{"failed too often", marathon, intime, qos.Tally{}, "", 1, 0, ending{Code: 1}, consequence{Outcome: qos.Failed, Phase: qos.PhaseFailed, Delete: true}},
		{"one that could not be started is no failure of its own", marathon, intime, qos.Tally{}, "", 1, 0, ending{Code: 125, NotStarted: true}, consequence{Outcome: qos.Failed, Phase: qos.PhaseEnded}},
		{"stopped is not a failure of its own", marathon, intime, qos.Tally{}, "", 1, 0, ending{Code: 143, Halted: "stopped"}, consequence{Outcome: qos.Failed, Phase: qos.PhaseLost}},
		{"stopped with exit 0 is not met", marathon, intime, qos.Tally{Succeeded: 1}, "", 0, 0, ending{Halted: "stopped"}, consequence{Outcome: qos.Failed, Phase: qos.PhaseLost}},
		{"repeats for ever", forever, intime, qos.Tally{Succeeded: 99}, "", 0, 0, ending{}, consequence{Outcome: qos.Met, Phase: qos.PhaseEnded}},
		{"cancelled", marathon, intime, qos.Tally{}, qos.IntentCancel, 0, 0, ending{Code: 143, Halted: "cancel"}, consequence{Outcome: qos.Failed, Phase: qos.PhaseCancelled, Delete: true}},
		{"iteration", chronos, intime, qos.Tally{Succeeded: 1}, "", 0, 0, ending{}, consequence{Outcome: qos.Done, Phase: qos.PhaseEnded, Again: true}},
		{"last iteration, however late", chronos, late, qos.Tally{Succeeded: 2}, "", 0, 0, ending{}, consequence{Outcome: qos.Done, Phase: qos.PhaseCompleted, Delete: true}},
		{"failed iteration waits", chronos, intime, qos.Tally{}, "", 0, 2, ending{Code: 9}, consequence{Outcome: qos.Failed, Phase: qos.PhaseEnded, Again: true, Delay: 4 * time.Second}},
		{"iteration by Chronos", byChronos, intime, qos.Tally{}, "", 0, 0, ending{}, consequence{Outcome: qos.Done, Phase: qos.PhaseEnded}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			st := qos.Status{Phase: qos.PhaseRunning, Intent: c.intent, Tally: c.tally, Failures: c.failures, Execution: &qos.Execution{Index: 1, Deadline: c.deadline}}
			got := follow(&c.spec, &st, c.e, c.inARow, now)
			if got.Reason == "" {
				t.Error("no reason given")
			}
			got.Reason = ""
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			if err := st.Phase.To(got.Phase); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBackoffIsBounded(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]time.Duration{-1: time.Second, 0: time.Second, 3: 8 * time.Second, 6: time.Minute, 1 << 30: time.Minute} {
		if got := backoff(n); got != want {
			t.Errorf("backoff(%d) = %s, want %s", n, got, want)
		}
	}
}

func FuzzCursor(f *testing.F) {
	for _, s := range []string{"", "1.1:0:0", "3.2:10:99", "-1.1:0:0", "1:0:0", "1.1:2", "1.1:2:3:4", "x", "01.1:0:0", "1.1:0:99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCursor(s)
		if err == nil && s != "" && c.String() != s {
			t.Errorf("%q reads as %s", s, c)
		}
	})
}
