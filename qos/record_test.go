package qos

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// genStatus draws statuses as the world makes them: one writer per epoch and owner, so that equal keys have equal contents, and a
// newer status is never of an earlier execution. Accounts, duty and intent travel on their own.
func genStatus() *rapid.Generator[Status] {
	return rapid.Custom(func(t *rapid.T) Status {
		s := Status{
			Epoch:  rapid.Uint64Range(1, 3).Draw(t, "epoch"),
			Owner:  rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "owner"),
			Seq:    rapid.Uint64Range(1, 3).Draw(t, "seq"),
			Intent: rapid.SampledFrom([]Intent{IntentNone, IntentCancel}).Draw(t, "intent"),
			Steward: Stewardship{
				Duty: rapid.Uint64Range(0, 3).Draw(t, "duty"), By: rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "by"),
				Pending: rapid.SampledFrom([]Act{ActNone, ActDelete}).Draw(t, "pending"),
			},
		}
		s.Phase = Phases()[int(s.Epoch+s.Seq)%len(Phases())]
		s.Tally.Succeeded = int(s.Epoch)
		index := 0
		if s.Epoch > 1 || s.Owner > "n1" {
			index = 1
		}
		if s.Epoch == 3 {
			index = 2
		}
		if index > 0 {
			s.Execution = &Execution{Index: index, Account: genAccount().Draw(t, "account")}
			s.Execution.Account.Live = Incarnation{int(s.Epoch), s.Owner} // one writer: equal keys have equal contents
		}
		return s
	})
}

func TestStatusesMergeAlikeInAnyOrder(t *testing.T) {
	t.Parallel()
	opt := cmpopts.EquateEmpty()
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := genStatus().Draw(t, "a"), genStatus().Draw(t, "b"), genStatus().Draw(t, "c")
		if diff := cmp.Diff(a.Merge(b), b.Merge(a), opt); diff != "" {
			t.Fatalf("not commutative:\n%s", diff)
		}
		if diff := cmp.Diff(a.Merge(b).Merge(c), a.Merge(b.Merge(c)), opt); diff != "" {
			t.Fatalf("not associative:\n%s", diff)
		}
		if diff := cmp.Diff(a.Merge(a), a, opt); diff != "" {
			t.Fatalf("not idempotent:\n%s", diff)
		}
		m := a.Merge(b)
		if (a.Intent == IntentCancel || b.Intent == IntentCancel) != (m.Intent == IntentCancel) {
			t.Fatal("a cancel was unset")
		}
		if a.Newer(b) && m.Phase != a.Phase || m.Steward.Duty != max(a.Steward.Duty, b.Steward.Duty) {
			t.Fatal("the newer status did not win, or the duty fell")
		}
	})
}

func TestStatusOrder(t *testing.T) {
	t.Parallel()
	// Rising: epoch first, then owner, then sequence; of two claims at one epoch the loser yields, whoever writes more.
	order := []Status{
		{Epoch: 1, Owner: "b", Seq: 9},
		{Epoch: 2, Owner: "a", Seq: 1},
		{Epoch: 2, Owner: "a", Seq: 7},
		{Epoch: 2, Owner: "b", Seq: 1},
		{Epoch: 3, Owner: "a", Seq: 1},
	}
	for i, s := range order {
		for j, o := range order {
			if got := s.Newer(o); got != (i > j) {
				t.Errorf("%d newer than %d: %t", i, j, got)
			}
		}
	}
}

func TestStatusesWithOneKeyButDifferentContentsMergeAlike(t *testing.T) {
	t.Parallel()
	a := Status{Epoch: 1, Owner: "n", Seq: 1, Phase: PhaseRunning}
	b := Status{Epoch: 1, Owner: "n", Seq: 1, Phase: PhaseLost}
	if diff := cmp.Diff(a.Merge(b), b.Merge(a)); diff != "" {
		t.Errorf("a fault makes nodes differ for ever:\n%s", diff)
	}
}

func TestACancelIsNeverUnset(t *testing.T) {
	t.Parallel()
	var s Status
	if !s.SetIntent(IntentComplete) || !s.SetIntent(IntentCancel) || s.SetIntent(IntentNone) || s.SetIntent(IntentComplete) || !s.SetIntent(IntentCancel) {
		t.Error("SetIntent does not say whether it was done")
	}
	if s.Intent != IntentCancel {
		t.Errorf("intent %q", s.Intent)
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	deadline := time.Unix(1000, 0)
	for _, tt := range []struct {
		f    Framework
		code int
		end  time.Time
		want Outcome
	}{
		{Marathon, 0, deadline, Met},
		{Marathon, 0, deadline.Add(time.Millisecond), Missed},
		{Marathon, 1, deadline.Add(-time.Hour), Failed},
		{Chronos, 0, deadline.Add(time.Hour), Done},
		{Chronos, 137, deadline, Failed},
	} {
		if got := OutcomeOf(tt.f, tt.code, tt.end, deadline); got != tt.want {
			t.Errorf("%s, exit code %d: %s, want %s", tt.f, tt.code, got, tt.want)
		}
	}
}

func TestRunsAreBoundedAndAllCounted(t *testing.T) {
	t.Parallel()
	var s Status
	for i := 1; i <= MaxRuns+10; i++ {
		s.AppendRun(Marathon, Run{Index: i, Outcome: Met, CPU: 2, Resizes: 1})
	}
	s.AppendRun(Marathon, Run{Index: 75, Outcome: Missed})
	s.AppendRun(Marathon, Run{Index: 76, Outcome: Failed, ExitCode: 1})
	if len(s.Runs) != MaxRuns || s.Runs[0].Index != 13 || s.Runs[MaxRuns-1].Index != 76 {
		t.Errorf("%d runs, from %d to %d", len(s.Runs), s.Runs[0].Index, s.Runs[len(s.Runs)-1].Index)
	}
	want := Tally{Succeeded: 75, Failed: 1, Met: 74, Missed: 2, CPU: 148, Resizes: 74}
	if diff := cmp.Diff(want, s.Tally); diff != "" {
		t.Errorf("tally (-want +got):\n%s", diff)
	}

	var series Status
	series.AppendRun(Chronos, Run{Index: 1, Outcome: Done})
	series.AppendRun(Chronos, Run{Index: 2, Outcome: Failed})
	if diff := cmp.Diff(Tally{Succeeded: 1, Failed: 1}, series.Tally); diff != "" {
		t.Errorf("an iteration counts as met or missed (-want +got):\n%s", diff)
	}
}
