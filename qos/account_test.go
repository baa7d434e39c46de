package qos

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestProgressAndConsumedDifferOnlyByWorkThatWasThrownAway(t *testing.T) {
	t.Parallel()
	var a Account
	if a.Progress() != 0 || a.Consumed() != 0 {
		t.Fatal("an empty account is not empty")
	}
	first := a.StartIncarnation(Entry{Node: "n1", Container: "c1"})
	a.Observe(first, 100*time.Second)
	if a.Progress() != 100*time.Second || a.Consumed() != 100*time.Second {
		t.Errorf("first incarnation: progress %v, consumed %v", a.Progress(), a.Consumed())
	}

	// A checkpoint at 80 s, a crash at 100 s, restored elsewhere: 20 s are lost, but were spent.
	second := a.StartIncarnation(Entry{Node: "n2", Container: "c2", Base: 80 * time.Second})
	a.Observe(second, 30*time.Second)
	if want := 110 * time.Second; a.Progress() != want {
		t.Errorf("progress %v, want %v", a.Progress(), want)
	}
	if want := 130 * time.Second; a.Consumed() != want {
		t.Errorf("consumed %v, want %v", a.Consumed(), want)
	}

	// Started anew: nothing is embodied, everything was spent.
	third := a.StartIncarnation(Entry{Node: "n2", Container: "c3"})
	a.Observe(third, time.Second)
	if a.Live != (Incarnation{3, "n2"}) || a.Progress() != time.Second || a.Consumed() != 131*time.Second {
		t.Errorf("started anew: live %v, progress %v, consumed %v", a.Live, a.Progress(), a.Consumed())
	}
}

func TestABaseCountsWhereTheEntryBeforeItIsUnknown(t *testing.T) {
	t.Parallel()
	second := Incarnation{2, "b"}
	a := Account{Live: second, Entries: map[Incarnation]Entry{second: {Base: 80 * time.Second, Own: 5 * time.Second}}}
	if got, want := a.Consumed(), 85*time.Second; got != want {
		t.Errorf("consumed %v, want %v", got, want)
	}
	a.Entries[Incarnation{1, "a"}] = Entry{Own: 80 * time.Second}
	if got, want := a.Consumed(), 85*time.Second; got != want {
		t.Errorf("with the missing entry consumed %v, want %v: counted twice", got, want)
	}
}

func TestObserveNeverReduces(t *testing.T) {
	t.Parallel()
	var a Account
	if a.Observe(Incarnation{1, "n"}, time.Second) {
		t.Error("an unknown incarnation was observed")
	}
	i := a.StartIncarnation(Entry{})
	if !a.Observe(i, 10*time.Second) || a.Observe(i, 10*time.Second) || a.Observe(i, 3*time.Second) {
		t.Error("Observe does not say when the account grew")
	}
	if a.Progress() != 10*time.Second {
		t.Errorf("progress %v after a smaller reading", a.Progress())
	}
	a.Borrow(i, time.Second)
	a.Borrow(i, -time.Second)
	a.Borrow(Incarnation{9, "n"}, time.Second)
	if a.Borrowed() != time.Second {
		t.Errorf("borrowed %v", a.Borrowed())
	}
}

func TestAMeterAddsWhatAnEarlierCgroupHad(t *testing.T) {
	t.Parallel()
	var m Meter
	var got []time.Duration
	for _, reading := range []time.Duration{0, 5, 9, 2, 3, 3, 0, 1} {
		got = append(got, m.Read(reading))
	}
	if diff := cmp.Diff([]time.Duration{0, 5, 9, 11, 12, 12, 12, 13}, got); diff != "" {
		t.Errorf("readings (-want +got):\n%s", diff)
	}
}

func genAccount() *rapid.Generator[Account] {
	entry := rapid.Custom(func(t *rapid.T) Entry {
		name := rapid.SampledFrom([]string{"", "a", "b"})
		d := func(label string) time.Duration {
			return time.Duration(rapid.IntRange(0, 4).Draw(t, label)) * time.Second
		}
		return Entry{
			Node: name.Draw(t, "node"), Container: name.Draw(t, "container"),
			Base: d("base"), Own: d("own"), Borrowed: d("borrowed"),
		}
	})
	name := rapid.Custom(func(t *rapid.T) Incarnation {
		return Incarnation{rapid.IntRange(1, 3).Draw(t, "n"), rapid.SampledFrom([]string{"a", "b"}).Draw(t, "node")}
	})
	return rapid.Custom(func(t *rapid.T) Account {
		return Account{Entries: rapid.MapOfN(name, entry, 0, 4).Draw(t, "entries"), Live: name.Draw(t, "live")}
	})
}

func TestTwoIncarnationsOfOneNumberAreBothCounted(t *testing.T) {
	t.Parallel()
	var a Account
	a.Observe(a.StartIncarnation(Entry{Node: "a"}), 100*time.Second)
	b := a.Clone() // from here on the two don't hear of each other; 80 s were saved
	a.Observe(a.StartIncarnation(Entry{Node: "a", Base: 80 * time.Second}), 7*time.Second)
	b.Observe(b.StartIncarnation(Entry{Node: "b", Base: 80 * time.Second}), 9*time.Second)
	m := a.Merge(b)
	if got, want := m.Consumed(), 116*time.Second; got != want {
		t.Errorf("consumed %v, want %v: all that both have spent", got, want)
	}
	if got, want := m.Progress(), 89*time.Second; got != want {
		t.Errorf("progress %v, want %v: of one alone", got, want)
	}
}

func TestAnIncarnationThatNeverRanIsWithdrawn(t *testing.T) {
	t.Parallel()
	var a Account
	first := a.StartIncarnation(Entry{Node: "a"})
	a.StartIncarnation(Entry{Node: "b"})
	a.Withdraw()
	if a.Live != first || len(a.Entries) != 1 {
		t.Errorf("live %v, %d entries", a.Live, len(a.Entries))
	}
	a.Withdraw()
	if a.Live != (Incarnation{}) || len(a.Entries) != 0 {
		t.Errorf("live %v, %d entries", a.Live, len(a.Entries))
	}
}

func TestIncarnationsText(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "@", "1", "x@n", "-1@n", "01@n", "+1@n"} {
		var i Incarnation
		if err := i.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was read as %v", bad, i)
		}
	}
	var i Incarnation
	if err := i.UnmarshalText([]byte("12@a@b")); err != nil || i != (Incarnation{12, "a@b"}) {
		t.Errorf("%v, %v", i, err)
	}
}

// equal compares accounts; no entries and nil are the same.
func equal(a, b Account) string {
	if len(a.Entries) == 0 {
		a.Entries = nil
	}
	if len(b.Entries) == 0 {
		b.Entries = nil
	}
	return cmp.Diff(a, b)
}

func TestAccountsAreASemilattice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := genAccount().Draw(t, "a"), genAccount().Draw(t, "b"), genAccount().Draw(t, "c")
		before := a.Clone()
		if diff := equal(a.Merge(b), b.Merge(a)); diff != "" {
			t.Fatalf("not commutative:\n%s", diff)
		}
		if diff := equal(a.Merge(b).Merge(c), a.Merge(b.Merge(c))); diff != "" {
			t.Fatalf("not associative:\n%s", diff)
		}
		if diff := equal(a.Merge(a), a); diff != "" {
			t.Fatalf("not idempotent:\n%s", diff)
		}
		m := a.Merge(b)
		if m.Consumed() < max(a.Consumed(), b.Consumed()) {
			t.Fatalf("a merge lost CPU time: %v of %v and %v", m.Consumed(), a.Consumed(), b.Consumed())
		}
		if m.Consumed() < m.Progress() {
			t.Fatalf("consumed %v is less than progress %v", m.Consumed(), m.Progress())
		}
		if diff := equal(a, before); diff != "" {
			t.Fatalf("Merge changed its argument:\n%s", diff)
		}
		out, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var back Account
		if err := json.Unmarshal(out, &back); err != nil {
			t.Fatal(err)
		}
		if diff := equal(m, back); diff != "" {
			t.Fatalf("JSON round trip:\n%s", diff)
		}
	})
}
