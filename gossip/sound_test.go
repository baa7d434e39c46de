package gossip

import (
	"testing"

	"qosctl/qos"
)

func TestWhatIsSoundOfAJobIsNoMixture(t *testing.T) {
	t.Parallel()
	tab := newTable()
	whole := parsed(t, seq("1"))
	if _, err := tab.merge(whole, start); err != nil {
		t.Fatal(err)
	}
	was := whole.rec.Status
	later := clone(whole.rec)
	later.Status.Epoch, later.Status.Owner, later.Status.Phase = was.Epoch+1, "b", qos.PhaseSuspended
	later.Status.Saved = &qos.Saved{Node: "b", Sequence: 7, Execution: 9}
	tab.hear(newsOf(later, "b"))
	mixed, _ := tab.view("j")
	if mixed.Status.Phase != qos.PhaseSuspended || mixed.Status.Saved == nil {
		t.Fatalf("no mixture: %+v", mixed.Status)
	}
	if got, ok := tab.sound("j"); !ok || got.Status.Owner != "b" || got.Status.Epoch != was.Epoch+1 || got.Status.Phase != was.Phase ||
		got.Status.Saved != nil && got.Status.Saved.Node == "b" {
		t.Errorf("sound: %+v", got.Status)
	}
	later.Status.Seq, later.Status.Phase, later.Status.Saved = 5, qos.PhaseCompleted, nil
	tab.hear(newsOf(later, "b"))
	if got, _ := tab.sound("j"); got.Status.Phase != qos.PhaseCompleted || !got.Status.Ended.IsZero() {
		t.Errorf("after its end: %+v", got.Status)
	}
	if _, err := tab.merge(liveRow(later, nil), start); err != nil {
		t.Fatal(err)
	}
	got, _ := tab.sound("j")
	if is, _ := tab.view("j"); versionOf(got.Status) != versionOf(is.Status) || got.Status.Phase != is.Status.Phase {
		t.Errorf("with its row: %+v, not %+v", got.Status, is.Status)
	}
}

// Of two broadcasts about a job, each with something newer, the one of the newer status says who has the row.
func TestWhoHasTheRowIsWhoWroteTheNewerStatus(t *testing.T) {
	t.Parallel()
	claim := news{id: "j", from: "owner", version: Version{Epoch: 5, Owner: "owner"}, phase: qos.PhaseRunning}
	duty := news{id: "j", from: "steward", version: Version{Epoch: 2, Owner: "former", Duty: 9, By: "steward"}, phase: qos.PhaseLost}
	for name, order := range map[string][]news{"claim first": {claim, duty}, "duty first": {duty, claim}} {
		tab := newTable()
		if _, err := tab.merge(liveRow(qos.Record{Spec: qos.Spec{ID: "j"}, Status: qos.Status{Epoch: 1, Owner: "former"}}, nil), start); err != nil {
			t.Fatal(err)
		}
		for _, n := range order {
			if !tab.hear(n) {
				t.Errorf("%s: %+v is no news", name, n)
			}
		}
		if from, behind := tab.behind("j"); !behind || from != "owner" {
			t.Errorf("%s: the row is with %q", name, from)
		}
	}
}
