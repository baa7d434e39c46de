package gossip

import (
	"bytes"
	"context"
	"encoding/binary"
	"reflect"
	"testing"
	"time"

	"qosctl/qos"
)

// Everything that a peer can send is fuzzed here: what is read has one form only, so that it is written again as it was read.

func FuzzNews(f *testing.F) {
	rec := qos.Record{Spec: qos.Spec{ID: testID(1)}, Status: qos.Status{Phase: qos.PhaseRunning, Epoch: 3, Owner: "a", Seq: 4}}
	f.Add(newsOf(rec, "a").encode()[1:])
	rec.Status.Saved = &qos.Saved{Node: "b", Sequence: 1, Execution: 2, Incarnation: 3}
	rec.Status.Steward.By, rec.Spec.ID, rec.Status.Phase = "s", "j", "Dreaming"
	f.Add(newsOf(rec, "s").encode()[1:])
	f.Add(news{id: "j", from: "a", version: Version{Removed: true}}.encode()[1:])
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := decodeNews(b)
		if err != nil {
			return
		}
		again := n.append(nil)
		m, err := decodeNews(again[1:])
		if err != nil || !reflect.DeepEqual(n, m) {
			t.Fatalf("%+v was written and read as %+v, %v", n, m, err)
		}
		newTable().hear(n)
	})
}

func FuzzAccounts(f *testing.F) {
	one := qos.Incarnation{N: 1, Node: "a"}
	all := []told{{testID(1), figures{1, map[qos.Incarnation]figure{one: {own: time.Second}}}}, {"j", figures{2, map[qos.Incarnation]figure{
		{N: 2, Node: "b"}: {time.Second, time.Minute, time.Millisecond, time.Hour}, one: {},
	}}}}
	for _, msg := range packAccounts("a", all) {
		f.Add(msg[1:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		from, all, err := decodeAccounts(b)
		if err != nil {
			return
		}
		tab := newTable()
		for _, a := range all {
			tab.count(a)
			for _, g := range a.of {
				for _, d := range []time.Duration{g.own, g.base, g.zero, g.borrowed} {
					if d < 0 || d > maxCPU {
						t.Fatalf("a CPU time of %v", d)
					}
				}
			}
			back := &reader{b: a.append(nil, from)}
			if got := back.told(from); back.done() != nil || !reflect.DeepEqual(got, a) {
				t.Fatalf("%+v was written and read as %+v", a, got)
			}
		}
	})
}

func FuzzMeta(f *testing.F) {
	full := Meta{
		Peer: "10.0.0.1:30001", API: "10.0.0.1:30000", Hostname: "a.example", ProtocolMin: 1, ProtocolMax: 2, Capabilities: 5, CPUs: 8, Headroom: 2.5,
		Allocated: 5.5, Jobs: 3, Class: [8]byte{1}, Draining: true, Held: true, Checkpoints: true, Leaving: true, Version: "1.2.3",
		HasRoom: true, Sold: 5, Need: 4.25,
		unknown: append(binary.AppendUvarint(nil, 77), 2, 'h', 'i'),
	}
	for _, m := range []Meta{full, {}} {
		b, err := m.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		if err != nil {
			return
		}
		again, err := m.encode()
		if err != nil {
			if len(b) > 480 { // a form that leaves out what is zero may be shorter than ours
				return
			}
			t.Fatalf("%+v: %v", m, err)
		}
		if n, err := decodeMeta(again); err != nil || !reflect.DeepEqual(m, n) {
			t.Fatalf("%+v was written and read as %+v, %v", m, n, err)
		}
	})
}

func FuzzMarks(f *testing.F) {
	s := newMarks()
	for _, k := range []string{"hold/all", "drain/a"} {
		if _, _, err := s.set(k, "yes", "a", start); err != nil {
			f.Fatal(err)
		}
	}
	if _, _, err := s.set("drain/a", "", "b", start); err != nil {
		f.Fatal(err)
	}
	f.Add(s.append(nil, start))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &reader{b: b}
		all := r.marks(start)
		if r.done() != nil {
			return
		}
		s := newMarks()
		for _, k := range all {
			s.merge(k, start)
			back := &reader{b: k.append(nil, start)}
			if got := back.mark(start); back.done() != nil || !reflect.DeepEqual(k, got) {
				t.Fatalf("%+v was written and read as %+v", k, got)
			}
		}
		if len(s.all) > maxMarks || s.clock > maxMarkClock {
			t.Fatalf("%d marks, clock %d", len(s.all), s.clock)
		}
	})
}

func FuzzState(f *testing.F) {
	f.Add(appendString(hint{1, 2}.append(nil), "a"))
	f.Fuzz(func(t *testing.T, b []byte) {
		name, h, err := decodeState(b)
		if err == nil && !bytes.Equal(b, appendString(h.append(nil), name)) {
			t.Fatalf("%q, %+v", name, h)
		}
	})
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(seq("1")))
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, raw, err := decodeRecord(b)
		if err != nil {
			return
		}
		again, err := encodeRecord(rec, raw)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		back, _, err := decodeRecord(again)
		if err != nil || versionOf(back.Status) != versionOf(rec.Status) || back.Spec.ID != rec.Spec.ID {
			t.Fatalf("%s\nwas written as\n%s: %v", b, again, err)
		}
		tab := newTable()
		if _, err := tab.merge(liveRow(rec, raw), start); err != nil {
			t.Fatal(err)
		}
		if changed, err := tab.merge(liveRow(rec, raw), start); changed || err != nil {
			t.Fatalf("merged twice: changed %v, %v", changed, err)
		}
	})
}

// mute is a peer that nobody calls.
type mute struct{}

func (mute) Call(context.Context, Member, string, []byte) ([]byte, error) {
	return nil, context.Canceled
}

// served is a Mesh with a row, a tombstone and a mark, that is not run.
func served(t testing.TB) *Mesh {
	t.Helper()
	m, err := New(Options{Node: "n", Bind: "127.0.0.1:0", Insecure: true, Peers: mute{}, Transport: deaf{}})
	if err != nil {
		t.Fatal(err)
	}
	rec, _, err := decodeRecord([]byte(seq("1")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Put(rec); err != nil {
		t.Fatal(err)
	}
	if err := m.Remove("gone"); err != nil {
		t.Fatal(err)
	}
	if err := m.Mark("hold/all", "yes"); err != nil {
		t.Fatal(err)
	}
	return m
}

// FuzzAnswer sends bodies to a node. What it answers with an error has changed nothing.
func FuzzAnswer(f *testing.F) {
	m := served(f)
	kinds := []string{kindDigest, kindVersions, kindRows, kindMarks, "nonsense"}
	page, _ := m.page([]string{"j", "gone"})
	f.Add(byte(0), encodeDigest(m.hint(), m.table.groups()))
	f.Add(byte(0), encodeDigest(hint{}, [numGroups]uint64{}))
	f.Add(byte(1), encodeBuckets([]int{0, bucketOf("j")}))
	f.Add(byte(2), encodeRows([]string{"j"}, page))
	f.Add(byte(3), m.marks.append([]byte{wireFormat}, start))
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		m := served(t)
		before := m.hint()
		answer, err := m.Answer(t.Context(), "peer", kinds[int(kind)%len(kinds)], body)
		if err != nil && m.hint() != before {
			t.Fatalf("%v, but something changed", err)
		}
		if len(answer) > MaxAnswer {
			t.Fatalf("an answer of %d bytes", len(answer))
		}
		if rec, ok := m.Get("j"); ok && rec.Status.Epoch < 1 {
			t.Fatalf("the row has fallen to %+v", rec.Status)
		}
		if _, ok := m.Get("gone"); ok {
			t.Fatal("a removed job is back")
		}
	})
}

// FuzzAnswers reads what a peer answers.
func FuzzAnswers(f *testing.F) {
	m := served(f)
	for kind, body := range map[string][]byte{
		kindDigest: encodeDigest(hint{}, [numGroups]uint64{}), kindVersions: encodeBuckets([]int{bucketOf("j")}), kindRows: encodeRows([]string{"j"}, nil),
	} {
		answer, err := m.Answer(f.Context(), "peer", kind, body)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(answer)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, differ, err := decodeDigestAnswer(b); err == nil && len(differ) > numGroups {
			t.Fatalf("%d groups", len(differ))
		}
		asked := []int{bucketOf("j")}
		if n, versions, err := decodeVersions(b, asked); err == nil {
			if n != 1 {
				t.Fatalf("%d of one bucket", n)
			}
			for id := range versions {
				if bucketOf(id) != asked[0] {
					t.Fatalf("job %q was not asked for", id)
				}
			}
		}
		if a, err := decodeRowsAnswer(b, []string{"j"}, start); err == nil && (a.served > 1 || len(a.rows) > 1 && a.rows[0].id != "j") {
			t.Fatalf("%d served, %d rows", a.served, len(a.rows))
		}
	})
}

// FuzzMessage sends user messages to a node.
func FuzzMessage(f *testing.F) {
	rec := qos.Record{Spec: qos.Spec{ID: "j"}, Status: qos.Status{Phase: qos.PhaseRunning, Epoch: 3, Owner: "a", Seq: 4}}
	f.Add(newsOf(rec, "a").encode())
	f.Add(mark{key: "hold/all", clock: 9, node: "a", unset: &grave{at: start}}.append([]byte{msgMark}, start))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := served(t)
		before := m.hint()
		if len(b) == 0 {
			return
		}
		if err := m.hear(b, start); err != nil && m.hint() != before {
			t.Fatalf("%v, but something changed", err)
		}
	})
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte(NewKey()))
	f.Add([]byte("# comment\n\n" + NewKey() + "\n" + "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parseKeys(b)
		if err != nil {
			return
		}
		for _, k := range keys {
			if len(k) != keySize {
				t.Fatalf("a key of %d bytes", len(k))
			}
		}
	})
}
