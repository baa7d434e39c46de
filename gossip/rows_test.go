package gossip

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/qos"
)

func parsed(t *testing.T, text string) *row {
	t.Helper()
	rec, raw, err := decodeRecord([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return liveRow(rec, raw)
}

const future = `{"spec":{"id":"j","name":"/j","framework":"marathon","cpus":1,"source":{"a":1},"colour":"red"},` +
	`"status":{"phase":"Running","epoch":1,"owner":"a","seq":%SEQ%,"tally":{"succeeded":1,"stars":7},"steward":{"duty":1,"by":"a","mood":"good"},` +
	`"execution":{"index":1,"started":"2030-01-01T00:00:00Z","deadline":"2030-01-01T01:00:00Z","allocation":1,"account":{"entries":{"1@a":{"node":"a","own":5,"base":0,"container":"","stat_container":"","cgroup":"","joules":9007199254740993}},"live":"1@a"}},` +
	`"runs":[{"index":1,"exit_code":0,"watts":3}],"shape":{"x":[1,2]}},"aura":true}`

func seq(n string) string { return strings.ReplaceAll(future, "%SEQ%", n) }

// unknownFields are the fields of future that this version does not know.
func unknownFields(t *testing.T, b []byte) map[string]any {
	t.Helper()
	var v map[string]any
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	at := func(path ...string) any {
		var x any = v
		for _, p := range path {
			m, ok := x.(map[string]any)
			if !ok {
				return nil
			}
			x = m[p]
		}
		return x
	}
	return map[string]any{
		"aura": at("aura"), "colour": at("spec", "colour"), "stars": at("status", "tally", "stars"), "mood": at("status", "steward", "mood"),
		"joules": at("status", "execution", "account", "entries", "1@a", "joules"), "shape": at("status", "shape"),
	}
}

func TestFieldsOfAnotherVersionAreKeptAndPassedOn(t *testing.T) {
	t.Parallel()
	want := unknownFields(t, []byte(seq("1")))
	encoded := func(tab *table) []byte {
		b, err := encodeRecord(tab.rows["j"].rec, tab.rows["j"].raw)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	tab := newTable()
	if _, err := tab.merge(parsed(t, seq("1")), start); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, unknownFields(t, encoded(tab))); d != "" {
		t.Errorf("as it came: %s", d)
	}
	// An account from elsewhere is merged into it.
	more := parsed(t, strings.ReplaceAll(seq("1"), `"own":5`, `"own":8`))
	more.raw = nil
	if changed, err := tab.merge(more, start); err != nil || !changed {
		t.Fatalf("changed %v, %v", changed, err)
	}
	if d := cmp.Diff(want, unknownFields(t, encoded(tab))); d != "" {
		t.Errorf("after a merge: %s", d)
	}
	if tab.rows["j"].rec.Status.Execution.Account.Progress() != 8 {
		t.Error("the account was not merged")
	}
	// This node takes the job over, and writes what it knows.
	rec, _ := tab.view("j")
	rec.Status.Epoch, rec.Status.Owner, rec.Status.Seq = 2, "b", 1
	if _, _, _, err := tab.put(rec, "b", start); err != nil {
		t.Fatal(err)
	}
	b := encoded(tab)
	if d := cmp.Diff(want, unknownFields(t, b)); d != "" {
		t.Errorf("after a write of this version: %s", d)
	}
	if back := parsed(t, string(b)); back.version != tab.rows["j"].version {
		t.Errorf("read back as %+v", back.version)
	}
	// A newer row of the other version brings its own.
	if _, err := tab.merge(parsed(t, strings.NewReplacer(`"epoch":1`, `"epoch":3`, "red", "blue").Replace(seq("1"))), start); err != nil {
		t.Fatal(err)
	}
	if got := unknownFields(t, encoded(tab))["colour"]; got != "blue" {
		t.Errorf("colour %v", got)
	}
}

func TestAnOlderVersionOfARowCostsNoRawBytes(t *testing.T) {
	t.Parallel()
	rec, raw, err := decodeRecord([]byte(`{"spec":{"id":"j","name":"n","framework":"marathon","cpus":1,"memory_mib":1,"process":{},"qos":{"duration":1,"desv_deadline":0,"deadline":"30m"},"source":{}},"status":{"phase":"Pending","epoch":0,"seq":1,"tally":{"succeeded":0,"failed":0,"met":0,"missed":0,"cpu_seconds":0,"resizes":0},"steward":{"duty":0}}}`))
	if err != nil || raw != nil || rec.Spec.ID != "j" {
		t.Errorf("raw %q, %v", raw, err)
	}
}

func TestAForgedRowIsRefused(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		``, `null`, `[]`, `{}`, `{"spec":{"id":""}}`, `{"spec":{"id":"j"}} {}`, `{"spec":{"id":"a\u0000b"}}`,
		`{"spec":{"id":"` + strings.Repeat("x", 65) + `"}}`,
		`{"spec":{"id":"j"},"status":{"epoch":18446744073709551615}}`,
		`{"spec":{"id":"j"},"status":{"epoch":-1}}`,
		`{"spec":{"id":"j"},"status":{"seq":9007199254740993}}`,
		`{"spec":{"id":"j"},"status":{"steward":{"duty":9007199254740993}}}`,
		`{"spec":{"id":"j"},"status":{"owner":"` + strings.Repeat("x", 256) + `"}}`,
		`{"spec":{"id":"j"},"status":{"owner":"a\nb"}}`,
		`{"spec":{"id":"j"},"status":{"phase":"` + strings.Repeat("x", 33) + `"}}`,
		`{"spec":{"id":"j"},"status":{"execution":{"account":{"entries":{"1@a":{"own":-1}}}}}}`,
		`{"spec":{"id":"j"},"status":{"execution":{"account":{"entries":{"1@a":{"own":9223372036854775807}}}}}}`,
		`{"spec":{"id":"j"},"status":{"execution":{"account":{"entries":{"x":{"own":1}}}}}}`,
	} {
		if rec, _, err := decodeRecord([]byte(bad)); !errors.Is(err, errMalformed) {
			t.Errorf("%.80s was read as %+v, %v", bad, rec, err)
		}
	}
}

func TestTombstones(t *testing.T) {
	t.Parallel()
	tab := newTable()
	live := parsed(t, seq("1"))
	for _, r := range []*row{live, tombstone("j", 0, start)} {
		if changed, err := tab.merge(r, start); !changed || err != nil {
			t.Fatalf("%v, %v", changed, err)
		}
	}
	tab.hear(newsOf(live.rec, "a"))
	tab.count(told{"j", figures{1, map[qos.Incarnation]figure{{N: 1, Node: "a"}: {own: 9}}}})
	if changed, _ := tab.merge(parsed(t, seq("9")), start); changed {
		t.Error("a peer brought a removed job back")
	}
	if _, _, _, err := tab.put(live.rec, "a", start); !errors.Is(err, ErrRemoved) {
		t.Errorf("a removed job was written: %v", err)
	}
	if _, ok := tab.view("j"); ok || len(tab.news)+len(tab.figures)+tab.unknown != 0 {
		t.Error("something is left of a removed job")
	}
	if gone := tab.sweep(start.Add(tombstoneRetires)); gone != nil || tab.root != 0 {
		t.Errorf("a retired tombstone stands in the digests, or is gone: %v", gone)
	}
	if changed, _ := tab.merge(parsed(t, seq("9")), start.Add(tombstoneRetires)); changed {
		t.Error("a retired tombstone did not hold")
	}
	fresh := newTable()
	if changed, _ := fresh.merge(tombstone("j", tombstoneRetires, start), start); changed {
		t.Error("a retired tombstone was taken in anew: it would go round for ever")
	}
	if gone := tab.sweep(start.Add(tombstoneTTL)); len(gone) != 1 || len(tab.rows) != 0 || tab.graves != 0 || len(tab.retired) != 0 {
		t.Errorf("after its time: %v, %d rows", gone, len(tab.rows))
	}
}

func TestATombstonesAgeTravels(t *testing.T) {
	t.Parallel()
	b, err := tombstone("j", time.Hour, start).append(nil, start.Add(2*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{b: b}
	got, _ := r.row(start)
	if err := r.done(); err != nil || got.grave.age != 3*time.Hour {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestFiguresStandBesideTheRow(t *testing.T) {
	t.Parallel()
	tab := newTable()
	one := qos.Incarnation{N: 1, Node: "a"}
	in := func(execution int, own time.Duration) told {
		return told{"j", figures{execution, map[qos.Incarnation]figure{one: {own: own}}}}
	}
	if !tab.count(in(1, 7)) { // before the row
		t.Error("figures of a job whose row has not come were not kept")
	}
	r := parsed(t, seq("1"))
	r.rec.Status.Execution.Account.Entries[one] = qos.Entry{Node: "a", Container: "c", Own: 5}
	if _, err := tab.merge(r, start); err != nil || tab.unknown != 0 {
		t.Fatalf("%v, %d unknown", err, tab.unknown)
	}
	version := tab.rows["j"].version
	want := func(own time.Duration) {
		t.Helper()
		rec, _ := tab.view("j")
		if e := rec.Status.Execution.Account.Entries[one]; e.Own != own || e.Container != "c" {
			t.Errorf("own %v, container %q; want %v, c", e.Own, e.Container, own)
		}
	}
	want(7)
	if tab.count(in(1, 6)) || tab.count(in(0, 99)) {
		t.Error("older figures were news")
	}
	want(7)
	tab.count(in(1, 11))
	want(11)
	if tab.rows["j"].version != version || tab.rows["j"].rec.Status.Execution.Account.Entries[one].Own != 5 {
		t.Error("figures changed the row")
	}
	if got := tab.shown("j"); got.rec.Status.Execution.Account.Entries[one].Own != 11 {
		t.Error("what peers are given lacks the figures")
	}
	// The next execution begins from nothing.
	tab.count(in(2, 1))
	want(5)
}

func TestWhatIsKeptOfUnknownJobsIsBounded(t *testing.T) {
	t.Parallel()
	tab := newTable()
	for i := range maxUnknown + 10 {
		n := news{id: testID(i), from: "a", version: Version{Epoch: 1, Owner: "a"}}
		_, kept := tab.news[n.id]
		passed := tab.hear(n)
		if _, now := tab.news[n.id]; passed != (now && !kept) || tab.hear(n) {
			t.Fatalf("broadcast %d: what is kept is passed on, once; the rest would go round for ever", i)
		}
		tab.count(told{testID(-i - 1), figures{1, map[qos.Incarnation]figure{{N: 1, Node: "a"}: {own: 1}}}})
	}
	if n := len(tab.news) + len(tab.figures); n > maxUnknown {
		t.Errorf("%d are kept", n)
	}
}

func TestBroadcastsAreShort(t *testing.T) {
	t.Parallel()
	rec := parsed(t, seq("1")).rec
	rec.Spec.ID = testID(1)
	rec.Status.Owner, rec.Status.Steward.By = "ip-10-123-123-123.eu-central-1.compute.internal", "ip-10-123-123-124.eu-central-1.compute.internal"
	rec.Status.Epoch, rec.Status.Seq, rec.Status.Steward.Duty = 1000, 100000, 10000
	rec.Status.Saved = &qos.Saved{Node: rec.Status.Owner, Sequence: 1234, Execution: 300, Incarnation: 2}
	b := newsOf(rec, rec.Status.Owner).encode()
	if len(b) == 0 || len(b) > 150 {
		t.Errorf("%d bytes", len(b))
	}
	if n, err := decodeNews(b[1:]); err != nil || n.saved == nil {
		t.Errorf("%+v, %v", n, err)
	}
	rec.Status.Saved.Node = strings.Repeat("n", 60)
	if n, err := decodeNews(newsOf(rec, rec.Status.Owner).encode()[1:]); err != nil || n.saved != nil {
		t.Errorf("a claim whose checkpoint's place has no room: %+v, %v", n, err)
	}
	rec.Status.Owner = strings.Repeat("n", 128)
	if b := newsOf(rec, rec.Status.Owner).encode(); b != nil {
		t.Errorf("%d bytes", len(b))
	}
}

func TestAStewardsStaleCopyOverwritesNothing(t *testing.T) {
	t.Parallel()
	tab := newTable()
	if _, err := tab.merge(parsed(t, seq("1")), start); err != nil {
		t.Fatal(err)
	}
	stale, _ := tab.view("j")
	newer := parsed(t, strings.ReplaceAll(seq("2"), "Running", "Ended"))
	if _, err := tab.merge(newer, start); err != nil {
		t.Fatal(err)
	}
	stale.Status.Steward.Duty, stale.Status.Steward.By = 2, "s"
	got, tell, changed, err := tab.put(stale, "s", start)
	if err != nil || !tell || !changed {
		t.Errorf("tell %v, changed %v, %v", tell, changed, err)
	}
	if st := got.Status; st.Phase != qos.PhaseEnded || st.Seq != 2 || st.Steward.Duty != 2 {
		t.Errorf("stored %+v", st)
	}
	// The owner itself, come back with less than it had told, goes on from there.
	stale.Status.Steward = got.Status.Steward
	if got, _, _, _ := tab.put(stale, "a", start); got.Status.Seq != 3 || got.Status.Phase != qos.PhaseRunning {
		t.Errorf("stored %+v", got.Status)
	}
}

func TestAWriteMadeFromNewsDoesNotStandForWhatTheNewsIsOf(t *testing.T) {
	t.Parallel()
	tab := newTable()
	if _, err := tab.merge(parsed(t, seq("1")), start); err != nil {
		t.Fatal(err)
	}
	whole := parsed(t, strings.NewReplacer(`"duty":1,"by":"a"`, `"duty":2,"by":"s","pending":"delete"`, "Running", "Suspended").Replace(seq("5")))
	tab.hear(newsOf(whole.rec, "s"))
	if from, behind := tab.behind("j"); !behind || from != "s" {
		t.Errorf("behind %v, %q", behind, from)
	}
	seen, _ := tab.view("j")
	if st := seen.Status; st.Seq != 5 || st.Phase != qos.PhaseSuspended || st.Steward.Duty != 2 {
		t.Fatalf("seen %+v", st)
	}
	// Another steward cancels the job, from what it sees.
	seen.Status.Intent = qos.IntentCancel
	if _, _, changed, err := tab.put(seen, "c", start); !changed || err != nil {
		t.Fatalf("changed %v, %v", changed, err)
	}
	if v := tab.rows["j"].version; v.Seq != 1 || v.Duty != 1 || !v.Cancel {
		t.Errorf("the row holds %+v", v)
	}
	if changed, _ := tab.merge(whole, start); !changed {
		t.Error("the row itself changed nothing")
	}
	got, _ := tab.view("j")
	if st := got.Status; st.Seq != 5 || st.Steward.Pending != qos.ActDelete || st.Intent != qos.IntentCancel {
		t.Errorf("in the end %+v", st)
	}
	if _, behind := tab.behind("j"); behind {
		t.Error("still behind")
	}
}

func TestAStewardshipSeenByNewsAloneNeverStandsForTheRealOne(t *testing.T) {
	t.Parallel()
	tab := newTable()
	if _, err := tab.merge(parsed(t, seq("1")), start); err != nil {
		t.Fatal(err)
	}
	// Of two contents the greater would win at one duty: the one without the expunged task.
	whole := parsed(t, strings.Replace(seq("1"), `"duty":1,"by":"a"`, `"duty":2,"by":"s","expunged":"t1"`, 1))
	tab.hear(newsOf(whole.rec, "s"))
	seen, _ := tab.view("j")
	if _, err := tab.merge(whole, start); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := tab.put(seen, "a", start); err != nil { // what was seen is passed on after the row has come
		t.Fatal(err)
	}
	if got, _ := tab.view("j"); got.Status.Steward.Expunged != "t1" || got.Status.Steward.By != "s" {
		t.Errorf("in the end %+v", got.Status.Steward)
	}
}

func TestADutyIsNeverUsedTwice(t *testing.T) {
	t.Parallel()
	tab := newTable()
	if _, err := tab.merge(parsed(t, seq("1")), start); err != nil {
		t.Fatal(err)
	}
	one, _ := tab.view("j")
	other := clone(one)
	one.Status.Steward.Duty, one.Status.Steward.By, one.Status.Steward.Expunged = 2, "s", "t1"
	other.Status.Steward.Duty, other.Status.Steward.By, other.Status.Steward.Pending = 2, "s", qos.ActDelete
	for _, w := range []qos.Record{one, other} {
		if _, _, _, err := tab.put(w, "s", start); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := tab.view("j"); got.Status.Steward.Duty != 3 || got.Status.Steward.Pending != qos.ActDelete {
		t.Errorf("in the end %+v", got.Status.Steward)
	}
}
