package history

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qosctl/qos"
)

var origin = time.UnixMilli(1_900_000_000_000)

// at is a reading of a job that uses one CPU, so many seconds after its submission.
func at(seconds float64) Reading {
	return Reading{
		At: origin.Add(time.Duration(seconds * float64(time.Second))), Ratio: 1, Used: seconds, Consumed: seconds, Desired: seconds, Allocation: 1, Usage: 1,
		Need: 0.5, Margin: -seconds, State: qos.OnPlan, Index: 1,
	}
}

// full is a History that can't grow any more.
func full() *History {
	h := New(origin)
	for i := range 10_000 {
		h.Add(at(5*float64(i)), 4*time.Second)
		h.Enter(Change{At: origin.Add(time.Duration(i) * time.Second), Phase: qos.PhaseRunning, Node: strings.Repeat("n", maxName-2) + string(rune('a'+i%20)), Index: i, Part: 1})
		h.Ended([]qos.Run{{Index: i, Started: origin.Add(time.Duration(i) * time.Second), Ended: origin.Add(time.Duration(i+1) * time.Second), CPU: 0.5, Outcome: qos.Done}})
	}
	return h
}

func TestItIsBounded(t *testing.T) {
	t.Parallel()
	h := full()
	if n := h.Bytes(); n > MaxBytes || n != len(h.Encode()) {
		t.Errorf("%d bytes, encoded %d, at most %d", n, len(h.Encode()), MaxBytes)
	}
	if inMemory := cap(h.late)*40 + cap(h.whole)*40 + cap(h.changes)*12 + cap(h.runs)*24; inMemory > 2*MaxBytes {
		t.Errorf("%d bytes in memory", inMemory)
	}
}

func TestAddAllocatesNothing(t *testing.T) {
	h := full()
	i := 10_000.0
	if n := testing.AllocsPerRun(1000, func() {
		i++
		h.Add(at(5*i), 4*time.Second)
		h.Enter(Change{At: origin.Add(time.Duration(i) * time.Second), Phase: qos.PhaseRunning, Index: int(i)})
	}); n > 0 {
		t.Errorf("%g allocations", n)
	}
}

func TestTheWholeLifeIsKeptAtEvenDistances(t *testing.T) {
	t.Parallel()
	v := full().View("x", time.Time{})
	if got := v.At[0]; got != origin.UnixMilli() {
		t.Errorf("it begins at %d, %d ms after the first reading", got, got-origin.UnixMilli())
	}
	if last := v.At[len(v.At)-1]; last != at(5*9999).At.UnixMilli() {
		t.Errorf("it ends at %d", last)
	}
	for i := range len(v.At) {
		if i > 0 && v.At[i] <= v.At[i-1] {
			t.Fatalf("reading %d is not after the one before it", i)
		}
		if want := float32(v.At[i]-origin.UnixMilli()) / 1000; v.Used[i] != want || v.Margin[i] != -want {
			t.Errorf("reading %d was never made: used %g at %g s", i, v.Used[i], want)
		}
	}
	late := v.At[len(v.At)-lateReadings:]
	for i := 1; i < len(late); i++ {
		if late[i]-late[i-1] != 5000 {
			t.Errorf("late readings %d ms apart", late[i]-late[i-1])
		}
	}
	early := v.At[:len(v.At)-lateReadings]
	for i := 2; i < len(early); i++ {
		if early[i]-early[i-1] != early[1]-early[0] {
			t.Errorf("early readings %d and %d ms apart", early[1]-early[0], early[i]-early[i-1])
		}
	}
}

func TestOfManyJobsEachHasFewerReadings(t *testing.T) {
	t.Parallel()
	h := full()
	for _, most := range []int{60, 31, 1} {
		h.Bound(most)
		if n := len(h.View("x", time.Time{}).At); n > max(4, most) || n < most/2 {
			t.Errorf("%d readings, %d at most", n, most)
		}
		if _, err := Decode(h.Encode()); err != nil {
			t.Errorf("with %d: %v", most, err)
		}
	}
	h = full()
	h.Bound(60)
	for i := range 2000 {
		h.Add(at(60000+float64(5*i)), 0)
		if len(h.late)+len(h.whole) > 60 || cap(h.late)+cap(h.whole) > 72 {
			t.Fatalf("%d and %d readings, with room for %d and %d", len(h.late), len(h.whole), cap(h.late), cap(h.whole))
		}
	}
	v := h.View("x", time.Time{})
	if first, last := v.At[0], v.At[len(v.At)-1]; first != origin.UnixMilli() || last != at(60000+5*1999).At.UnixMilli() || len(v.At) < 40 {
		t.Errorf("%d readings from %d to %d", len(v.At), first, last)
	}
}

func TestAReadingThatSaysNothingNewIsLeftOut(t *testing.T) {
	t.Parallel()
	h := New(origin)
	other, under := at(2), at(3)
	other.Allocation, under.Allocation, under.State = 0.5, 0.5, qos.UnderPerformant
	for _, r := range []Reading{at(0), at(1), other, under, at(2.5), at(20), at(10)} {
		h.Add(r, 4*time.Second)
	}
	want := []int64{0, 2000, 3000, 20000}
	for i := range want {
		want[i] += origin.UnixMilli()
	}
	if diff := cmp.Diff(want, h.View("x", time.Time{}).At); diff != "" {
		t.Errorf("want - got +:\n%s", diff)
	}
	if got := h.View("x", origin.Add(2*time.Second)).At; len(got) != 2 {
		t.Errorf("after two seconds: %v", got)
	}
}

func TestFiguresAreNumbers(t *testing.T) {
	t.Parallel()
	h := New(origin)
	r := at(0)
	r.Need, r.Ratio, r.Margin = math.Inf(1), math.NaN(), math.Inf(-1)
	h.Add(r, 0)
	if v := h.View("x", time.Time{}); v.Need[0] != math.MaxFloat32 || v.Ratio[0] != 0 || v.Margin[0] != -math.MaxFloat32 {
		t.Errorf("%v %v %v", v.Need, v.Ratio, v.Margin)
	}
	if _, err := Decode(h.Encode()); err != nil {
		t.Error(err)
	}
}

func TestRunsAreKeptOnce(t *testing.T) {
	t.Parallel()
	h := New(origin)
	list := []qos.Run{{Index: 1, Started: origin, Ended: origin.Add(time.Second), CPU: 1, Outcome: qos.Met}, {Index: 2, Started: origin.Add(time.Second), Ended: origin.Add(3 * time.Second), CPU: 2, Outcome: qos.Failed, Parts: 3}}
	h.Ended(list)
	list[0].CPU = 1.5
	h.Ended(list)
	v := h.View("x", time.Time{})
	if len(v.Runs) != 2 || v.Runs[0].CPU != 1.5 || v.Runs[1].Seconds != 2 || v.Runs[1].Incarnations != 3 || v.Runs[0].Incarnations != 1 || v.Runs[1].Outcome != qos.Failed || !v.Runs[1].Started.Equal(list[1].Started) {
		t.Errorf("%+v", v.Runs)
	}
}

func TestItComesBackAsItWas(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := New(origin)
		for i, n := 0, rapid.IntRange(0, 2000).Draw(t, "looks"); i < n; i++ {
			r := at(float64(i))
			r.Late, r.Index = i%7 == 0, i/100
			h.Add(r, time.Second)
			if i%50 == 0 {
				h.Enter(Change{At: r.At, Phase: qos.PhaseRunning, Node: []string{"a", "b", ""}[i/50%3], Index: r.Index, Part: i % 3})
				h.Ended([]qos.Run{{Index: i, Started: r.At, Ended: r.At.Add(time.Second), CPU: 1, Outcome: qos.Met}})
			}
		}
		again, err := Decode(h.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(h.View("x", time.Time{}), again.View("x", time.Time{})); diff != "" {
			t.Fatalf("kept - read +:\n%s", diff)
		}
		h.Add(at(5000), 0)
		again.Add(at(5000), 0)
		if !slices.Equal(h.Encode(), again.Encode()) {
			t.Fatal("they go on in different ways")
		}
	})
}

func FuzzDecode(f *testing.F) {
	h := New(origin)
	h.Add(at(1), 0)
	h.Enter(Change{At: origin, Phase: qos.PhasePending, Node: "a"})
	f.Add(h.Encode())
	f.Add(full().Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := Decode(b)
		if err != nil {
			return
		}
		if h.Bytes() > MaxBytes {
			t.Fatalf("%d bytes", h.Bytes())
		}
		h.Add(at(1e6), 0)
		h.Enter(Change{At: origin, Phase: qos.PhaseRunning, Node: "b"})
		h.View("x", time.Time{})
		if _, err := Decode(h.Encode()); err != nil {
			t.Fatal(err)
		}
	})
}
