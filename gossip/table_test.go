package gossip

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qosctl/qos"
)

var start = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func testID(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", i) }

// genRow makes rows of few jobs with few versions, so that they meet. What a version says follows from it, as with real writers; the
// account grows freely.
func genRow() *rapid.Generator[*row] {
	return rapid.Custom(func(t *rapid.T) *row {
		id := testID(rapid.IntRange(0, 2).Draw(t, "job"))
		if rapid.IntRange(0, 19).Draw(t, "tombstone") == 0 {
			return tombstone(id, time.Duration(rapid.IntRange(0, 3).Draw(t, "age"))*time.Hour, start)
		}
		node := rapid.SampledFrom([]string{"a", "b", "c"})
		st := qos.Status{
			Epoch: uint64(rapid.IntRange(1, 3).Draw(t, "epoch")), Owner: node.Draw(t, "owner"), Seq: uint64(rapid.IntRange(1, 3).Draw(t, "seq")),
		}
		st.Reason = fmt.Sprint(st.Epoch, st.Owner, st.Seq)
		st.Phase = qos.Phases()[int(st.Seq+st.Epoch)%len(qos.Phases())]
		duty := uint64(rapid.IntRange(0, 2).Draw(t, "duty"))
		st.Steward = qos.Stewardship{Duty: duty, By: node.Draw(t, "by")}
		st.Steward.Policy = fmt.Sprint(duty, st.Steward.By)
		if rapid.IntRange(0, 4).Draw(t, "cancel") == 0 {
			st.Intent = qos.IntentCancel
		}
		live := qos.Incarnation{N: int(st.Epoch), Node: st.Owner}
		st.Execution = &qos.Execution{Index: 1, Account: qos.Account{Live: live, Entries: map[qos.Incarnation]qos.Entry{
			live: {Node: st.Owner, Own: time.Duration(rapid.IntRange(0, 9).Draw(t, "own")) * time.Second},
		}}}
		return liveRow(qos.Record{Spec: qos.Spec{ID: id, Name: id, Source: json.RawMessage(`{}`)}, Status: st}, nil)
	})
}

func genNews() *rapid.Generator[news] {
	return rapid.Custom(func(t *rapid.T) news { r := genRow().Draw(t, "row"); return newsOf(r.rec, "a") })
}

// picture is all that a table shows.
func picture(t *rapid.T, tab *table) map[string]string {
	p := map[string]string{"root": fmt.Sprint(tab.root), "buckets": fmt.Sprint(tab.buckets)}
	for id, r := range tab.rows {
		if r.grave != nil {
			p[id] = "removed"
			continue
		}
		b, err := json.Marshal(r.rec)
		if err != nil {
			t.Fatal(err)
		}
		p[id] = string(b)
	}
	return p
}

func mergeAll(t *rapid.T, tab *table, rows []*row) {
	for _, r := range rows {
		if _, err := tab.merge(r, start); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMergeDoesNotDependOnOrderOrRepetition(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOfN(genRow(), 1, 12).Draw(t, "rows")
		one, two := newTable(), newTable()
		mergeAll(t, one, rows)
		again := append(rapid.Permutation(rows).Draw(t, "order"), rapid.SliceOf(rapid.SampledFrom(rows)).Draw(t, "again")...)
		mergeAll(t, two, again)
		if d := cmp.Diff(picture(t, one), picture(t, two)); d != "" {
			t.Fatal(d)
		}
	})
}

func TestMergeIsAssociative(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		// Three tables, merged as (a ∨ b) ∨ c and a ∨ (b ∨ c).
		parts := make([]*table, 3)
		for i := range parts {
			parts[i] = newTable()
			mergeAll(t, parts[i], rapid.SliceOfN(genRow(), 0, 6).Draw(t, "rows"))
		}
		join := func(a, b *table) *table {
			m := newTable()
			for _, p := range []*table{a, b} {
				for _, r := range p.rows {
					mergeAll(t, m, []*row{r})
				}
			}
			return m
		}
		left := join(join(parts[0], parts[1]), parts[2])
		right := join(parts[0], join(parts[1], parts[2]))
		if d := cmp.Diff(picture(t, left), picture(t, right)); d != "" {
			t.Fatal(d)
		}
	})
}

func TestMergedVersionIsTheJoinOfVersions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := genRow().Draw(t, "a"), genRow().Draw(t, "b")
		b.id = a.id
		b.rec.Spec = a.rec.Spec
		if a.grave != nil || b.grave != nil {
			t.Skip("tombstones have no status")
		}
		m, changed, err := mergeRows(a, b)
		if err != nil {
			t.Fatal(err)
		}
		if want := a.version.join(b.version); m.version != want {
			t.Fatalf("version %+v, want %+v", m.version, want)
		}
		if !changed && m.version != a.version {
			t.Fatal("said to be unchanged")
		}
		if !m.version.covers(a.version) || !m.version.covers(b.version) {
			t.Fatal("the merged row does not cover both")
		}
	})
}

func TestDigestIsThatOfTheRowsThatAreThere(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tab := newTable()
		mergeAll(t, tab, rapid.SliceOfN(genRow(), 0, 12).Draw(t, "rows"))
		var root uint64
		for id, r := range tab.rows {
			root ^= r.version.hash(id)
		}
		groups := uint64(0)
		for _, g := range tab.groups() {
			groups ^= g
		}
		if tab.root != root || groups != root {
			t.Fatalf("root %x, groups %x, want %x", tab.root, groups, root)
		}
	})
}

func TestAPutNeverUsesAVersionTwice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tab := newTable()
		seen := map[Version]string{}
		note := func(r *row) {
			key := Version{Epoch: r.version.Epoch, Owner: r.version.Owner, Seq: r.version.Seq}
			text := string(writePart(r.rec.Status))
			if old, ok := seen[key]; ok && old != text {
				t.Fatalf("version %+v stands for\n%s and\n%s", key, old, text)
			}
			seen[key] = text
		}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			r := genRow().Draw(t, "row")
			r.id, r.rec.Spec.ID = testID(0), testID(0)
			if r.grave != nil {
				continue
			}
			if rapid.Bool().Draw(t, "from a peer") {
				r.rec.Status.Owner, r.version.Owner = "b", "b"
				r.rec.Status.Reason = "b's"
				if rapid.Bool().Draw(t, "by broadcast") {
					tab.hear(newsOf(r.rec, "b"))
					continue
				}
				mergeAll(t, tab, []*row{r})
				continue
			}
			st := &r.rec.Status
			st.Owner, st.Reason = "a", fmt.Sprint(rapid.IntRange(0, 2).Draw(t, "content"))
			stored, _, _, err := tab.put(r.rec, "a", start)
			if err != nil {
				t.Fatal(err)
			}
			if stored.Status.Owner == "a" && tab.rows[r.id].version.Owner == "a" {
				note(tab.rows[r.id])
			}
		}
	})
}

func TestNewsShowsWhoSupersededAndLeavesTheRowAlone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tab := newTable()
		mergeAll(t, tab, rapid.SliceOfN(genRow(), 1, 6).Draw(t, "rows"))
		before := picture(t, tab)
		n := genNews().Draw(t, "news")
		known := tab.known(n.id)
		fresh := tab.hear(n)
		if fresh == known.covers(n.version) {
			t.Fatalf("new: %v, though known %+v and heard %+v", fresh, known, n.version)
		}
		if tab.hear(n) {
			t.Fatal("the same broadcast was new twice: it would go round for ever")
		}
		if d := cmp.Diff(before, picture(t, tab)); d != "" {
			t.Fatalf("a broadcast changed rows:\n%s", d)
		}
		said := n.version
		said.By = "" // its content is not there: nobody's
		if rec, ok := tab.view(n.id); ok && !versionOf(rec.Status).covers(said) {
			t.Fatalf("shown %+v after news of %+v", versionOf(rec.Status), n.version)
		}
	})
}

// TestTablesConverge runs the exchange's own choice of rows among a few tables, in a random order, with lost exchanges, until all
// digests are the same; then all tables are. A failing run is replayed by its seed.
func TestTablesConverge(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tabs := make([]*table, 4)
		for i := range tabs {
			tabs[i] = newTable()
			mergeAll(t, tabs[i], rapid.SliceOfN(genRow(), 0, 8).Draw(t, "rows"))
		}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		lost := rapid.Float64Range(0, 0.7).Draw(t, "lost")
		for round := 0; slices.ContainsFunc(tabs, func(x *table) bool { return x.root != tabs[0].root }); round++ {
			if round > 1000 {
				t.Fatal("no convergence in 1,000 exchanges")
			}
			from, to := tabs[rng.IntN(len(tabs))], tabs[rng.IntN(len(tabs))]
			for id, r := range from.rows {
				if rng.Float64() < lost {
					continue
				}
				if mine := to.rows[id]; mine == nil || !mine.version.covers(r.version) {
					if changed, err := to.merge(r, start); err != nil || !changed {
						t.Fatalf("a row that was not covered changed nothing: %v", err)
					}
				}
			}
		}
		want := versions(tabs[0])
		for _, x := range tabs {
			if d := cmp.Diff(want, versions(x)); d != "" {
				t.Fatal(d)
			}
		}
	})
}

func versions(t *table) map[string]Version {
	v := map[string]Version{}
	for id, r := range t.rows {
		v[id] = r.version
	}
	return v
}
