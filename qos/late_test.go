package qos

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestALateAccountIsBookedOnce tells parts of an execution's account late, in any order and more than once: in the end the tally is what
// it would be had all been known when the run was booked.
func TestALateAccountIsBookedOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		whole := Account{Entries: map[Incarnation]Entry{}}
		for n := range rapid.IntRange(1, 4).Draw(t, "incarnations") {
			i := Incarnation{n + 1, rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "node")}
			base := time.Duration(rapid.IntRange(0, int(whole.Consumed().Milliseconds())).Draw(t, "base")) * time.Millisecond
			whole.Entries[i] = Entry{Node: i.Node, Base: base, Own: time.Duration(rapid.IntRange(1, 100_000).Draw(t, "own")) * time.Millisecond}
		}
		part := func(name string) Account {
			a := Account{Entries: map[Incarnation]Entry{}}
			for _, i := range whole.Incarnations() {
				if rapid.Bool().Draw(t, name) {
					e := whole.Entries[i]
					e.Own = time.Duration(rapid.Int64Range(0, int64(e.Own)).Draw(t, name+" own"))
					a.Entries[i] = e
				}
			}
			return a
		}
		known := part("known")
		last := whole.Incarnations()[len(whole.Entries)-1]
		known.Entries[last] = whole.Entries[last]
		st := Status{}
		st.AppendRun(Marathon, Run{Index: 1, CPU: known.Consumed().Seconds(), Spent: known.Shares()})
		st.AppendRun(Marathon, Run{Index: 2, CPU: 7, Spent: map[Incarnation]Share{{1, "a"}: {Own: 7 * time.Second}}})
		told := time.Duration(0)
		for _, late := range []Account{part("first"), part("second"), whole, whole, part("third")} {
			more, booked := st.BookLate(1, late)
			if !booked || more < 0 {
				t.Fatalf("booked %v: %v", more, booked)
			}
			told += more
		}
		if want := whole.Consumed() - known.Consumed(); told != want {
			t.Fatalf("booked %v late, want %v", told, want)
		}
		if want := whole.Consumed().Seconds() + 7; abs(st.Tally.CPU-want) > 1e-6 || abs(st.Runs[0].CPU-(want-7)) > 1e-6 {
			t.Fatalf("the tally says %v, the run %v, want %v", st.Tally.CPU, st.Runs[0].CPU, want)
		}
	})
}

func TestALateAccountOfWhatIsNotKeptIsNotBooked(t *testing.T) {
	t.Parallel()
	late := Account{Entries: map[Incarnation]Entry{{1, "a"}: {Own: time.Second}}}
	st := Status{Runs: []Run{{Index: 1, CPU: 3}}, Tally: Tally{CPU: 3}} // as a version wrote it that kept no shares
	for _, execution := range []int{1, 2} {
		if more, booked := st.BookLate(execution, late); booked || more != 0 || st.Tally.CPU != 3 {
			t.Errorf("execution %d: %v, %v, tally %v", execution, more, booked, st.Tally.CPU)
		}
	}
}

func abs(x float64) float64 { return max(x, -x) }

func TestSharesAreKeptOfTheNewestRuns(t *testing.T) {
	t.Parallel()
	shares := func(n int) map[Incarnation]Share {
		m := map[Incarnation]Share{}
		for i := range n {
			m[Incarnation{i + 1, "a"}] = Share{Own: time.Second}
		}
		return m
	}
	st := Status{}
	for i, n := range []int{3, 500, 400, 100} {
		st.AppendRun(Marathon, Run{Index: i + 1, CPU: float64(n), Spent: shares(n)})
	}
	kept := func() (all []int) {
		for _, r := range st.Runs {
			all = append(all, len(r.Spent))
		}
		return all
	}
	if d := cmp.Diff([]int{0, 500, 400, 100}, kept()); d != "" {
		t.Error(d)
	}
	late := Account{Entries: map[Incarnation]Entry{{MaxIncarnations, "b"}: {Own: time.Second}}}
	if more, booked := st.BookLate(1, late); booked || more != 0 {
		t.Errorf("of what is not kept %v is booked", more)
	}
	if more, booked := st.BookLate(4, late); !booked || more != time.Second {
		t.Errorf("%v is booked: %t", more, booked)
	}
	if d := cmp.Diff([]int{0, 0, 400, 101}, kept()); d != "" {
		t.Error(d)
	}
	st.AppendRun(Marathon, Run{Index: 5, CPU: 1, Spent: shares(2 * MaxIncarnations)}) // of a version that had no such bound
	if d := cmp.Diff([]int{0, 0, 0, 0, 2 * MaxIncarnations}, kept()); d != "" {
		t.Error(d)
	}
	if st.Tally.CPU != 1005 {
		t.Errorf("the tally says %v", st.Tally.CPU)
	}
}
