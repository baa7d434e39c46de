package gossip

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestOwnBroadcastsGoFirstAndTheNewestOfEach(t *testing.T) {
	t.Parallel()
	q := newQueue(func() int { return 3 }, 4)
	q.add("job/1", []byte("pass 1"), false, start)
	q.add("job/2", []byte("own 2, older"), true, start)
	q.add("job/2", []byte("own 2"), true, start)
	var got []string
	for _, b := range q.get(2, 1000) {
		got = append(got, string(b))
	}
	if d := cmp.Diff([]string{"own 2", "pass 1"}, got); d != "" {
		t.Error(d)
	}
	size := 0
	for _, b := range q.get(2, 8) {
		size += len(b) + 2
	}
	if size > 8 {
		t.Errorf("%d bytes where 8 were allowed", size)
	}
}

func TestBroadcastsAreLimited(t *testing.T) {
	t.Parallel()
	q := newQueue(func() int { return 3 }, 4)
	for i := range 1000 {
		q.add(fmt.Sprint(i), []byte("m"), true, start)
	}
	if queued, dropped := q.stats(); queued != ownBurst || dropped != 1000-ownBurst {
		t.Errorf("%d queued, %d dropped", queued, dropped)
	}
	for i := range 100_000 {
		q.add(fmt.Sprint("p", i), []byte("m"), false, start.Add(time.Duration(i)*time.Second))
	}
	if queued, _ := q.stats(); queued > 2*maxQueued {
		t.Errorf("%d queued", queued)
	}
}

func TestAStrangersLinesAreToldOnceAnHourEach(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	heard := 0
	var suspects []string
	c := &chatter{
		log: slog.New(slog.NewTextHandler(&out, nil)), heard: func() { heard++ }, suspect: func(n string) { suspects = append(suspects, n) },
	}
	say := func(format string, args ...any) {
		if _, err := fmt.Fprintf(c, format+"\n", args...); err != nil {
			t.Error(err)
		}
	}
	for i := range 1000 {
		say("2030/01/01 00:00:00 [ERR] memberlist: Decrypt packet failed: no installed keys could decrypt the message from=10.0.0.1:%d", 1000+i)
		say("2030/01/01 00:00:00 [ERR] memberlist: discarding stream with unacceptable label %q: from=10.0.0.2:%d", "x\x1b[2J", 1000+i)
	}
	say("2030/01/01 00:00:00 [INFO] memberlist: Suspect node-1 has failed, no acks received")
	say("2030/01/01 00:00:00 [DEBUG] memberlist: Stream connection from=10.0.0.1:7")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || heard != 2000 || !cmp.Equal(suspects, []string{"node-1"}) {
		t.Errorf("%d lines, %d heard, suspects %v:\n%s", len(lines), heard, suspects, out.String())
	}
	if strings.ContainsRune(out.String(), '\x1b') {
		t.Error("a stranger's bytes move the terminal")
	}
}

func TestStrangersAreRememberedWithinBounds(t *testing.T) {
	t.Parallel()
	var o once
	passed := 0
	for i := range 10 * maxStrangers {
		if o.pass(fmt.Sprint(i), start) {
			passed++
		}
	}
	if passed != maxStrangers+1 || len(o.seen) > maxStrangers+1 {
		t.Errorf("%d passed, %d are remembered", passed, len(o.seen))
	}
	if o.pass("0", start.Add(time.Hour-1)) || !o.pass("0", start.Add(time.Hour)) {
		t.Error("not once an hour")
	}
}

func TestMetaFitsAndKeepsWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-z0-9.:-]{0,60}`)
		cpus := rapid.Custom(func(t *rapid.T) float64 { return float64(rapid.IntRange(0, 1_000_000).Draw(t, "milli")) / 1000 })
		m := Meta{
			Peer: text.Draw(t, "peer"), API: text.Draw(t, "api"), Hostname: text.Draw(t, "host"), Version: text.Draw(t, "version"),
			ProtocolMin: rapid.IntRange(0, 9).Draw(t, "min"), ProtocolMax: rapid.IntRange(0, 9).Draw(t, "max"),
			Capabilities: rapid.Uint64().Draw(t, "caps"), CPUs: cpus.Draw(t, "cpus"), Headroom: cpus.Draw(t, "room"), Allocated: cpus.Draw(t, "given"),
			Jobs: rapid.IntRange(0, 1000).Draw(t, "jobs"), Draining: rapid.Bool().Draw(t, "d"), Held: rapid.Bool().Draw(t, "h"), Leaving: rapid.Bool().Draw(t, "l"),
		}
		if m.HasRoom = rapid.Bool().Draw(t, "told"); m.HasRoom {
			m.Sold, m.Need = cpus.Draw(t, "sold"), cpus.Draw(t, "need")
		}
		rest := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "unknown")
		m.unknown = append([]byte{99, byte(len(rest))}, rest...)
		b, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeMeta(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(m, got, cmp.AllowUnexported(Meta{}), cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
	})
	if _, err := (Meta{Peer: strings.Repeat("x", 600)}).encode(); err == nil {
		t.Error("a meta of 600 bytes was taken: memberlist would panic")
	}
	for _, bad := range [][]byte{nil, {0}, {2}, {metaFormat, metaPeer}, {metaFormat, metaPeer, 1, '\n'}, {metaFormat, metaJobs, 1, 1, metaJobs, 1, 1}, {metaFormat, metaJobs, 2, 1, 1}} {
		if m, err := decodeMeta(bad); err == nil {
			t.Errorf("%v was read as %+v", bad, m)
		}
	}
}

func TestMarksHaveOneOutcome(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		one := rapid.Custom(func(t *rapid.T) mark {
			m := mark{key: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key"), clock: uint64(rapid.IntRange(1, 3).Draw(t, "clock")), node: rapid.SampledFrom([]string{"n", "m"}).Draw(t, "node")}
			if m.value = rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "value"); m.value == "" {
				m.unset = &grave{at: start}
			}
			return m
		})
		all := rapid.SliceOfN(one, 1, 10).Draw(t, "marks")
		x, y := newMarks(), newMarks()
		for _, m := range all {
			x.merge(m, start)
		}
		for _, m := range append(rapid.Permutation(all).Draw(t, "order"), all...) {
			y.merge(m, start)
		}
		if x.hash != y.hash || x.clock != y.clock || !cmp.Equal(x.values(), y.values()) {
			t.Fatalf("%v and %v", x.values(), y.values())
		}
		// A write after all that is above all that.
		if m, changed, err := x.set("a", "z", "n", start); err != nil || !changed || m.clock <= x.all["b"].clock || x.values()["a"] != "z" {
			t.Fatalf("%+v, %v, %v", m, changed, err)
		}
	})
}

func TestMarksAreBounded(t *testing.T) {
	t.Parallel()
	s := newMarks()
	for i := range maxMarks {
		if _, _, err := s.set(fmt.Sprint(i), "x", "n", start); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.set("more", "x", "n", start); err == nil {
		t.Error("more marks than may be")
	}
	if _, _, err := s.set("7", "", "n", start); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.set("more", "x", "n", start); err != nil || len(s.all) > maxMarks {
		t.Errorf("%d marks, %v", len(s.all), err)
	}
	if gone := s.sweep(start.Add(tombstoneTTL)); gone != nil {
		t.Errorf("%v went", gone)
	}
}

// Two nodes that each have as many unset marks as may be, and not the same ones, come to the same, and then have nothing more to tell.
func TestFullMarksComeToTheSame(t *testing.T) {
	t.Parallel()
	x, y := newMarks(), newMarks()
	for i := range maxMarks {
		for name, s := range map[string]*marks{"x": x, "y": y} {
			m := mark{key: fmt.Sprint(name, i), clock: uint64(i + 1), node: name, unset: &grave{at: start}}
			if !s.merge(m, start) {
				t.Fatalf("%+v finds no room", m)
			}
		}
	}
	exchange := func() (news int) {
		for _, way := range [][2]*marks{{x, y}, {y, x}} {
			for _, m := range maps.Clone(way[0].all) {
				if way[1].merge(m, start) {
					news++
				}
			}
		}
		return news
	}
	exchange()
	exchange()
	if news := exchange(); news != 0 || x.hash != y.hash || len(x.all) != maxMarks {
		t.Errorf("%d are still news; %d and %d marks, alike: %t", news, len(x.all), len(y.all), x.hash == y.hash)
	}
	for _, m := range x.all {
		if m.clock <= maxMarks/2 {
			t.Errorf("%s stays, which was unset longer ago than others", m.key)
		}
	}
	if x.merge(mark{key: "old", clock: 1, node: "x", unset: &grave{at: start}}, start) {
		t.Error("one that was unset longer ago than all finds room")
	}
	gone := x.takeEvicted()
	for _, key := range gone {
		if _, there := x.all[key]; there {
			t.Errorf("%s was forgotten, and is there", key)
		}
	}
	if len(gone) < maxMarks/2 || len(x.takeEvicted()) != 0 {
		t.Errorf("%d were forgotten", len(gone))
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	keys, err := NewKeyring(NewKey())
	if err != nil {
		t.Fatal(err)
	}
	good := Options{Node: "n", Bind: "127.0.0.1:0", Keys: keys, Peers: mute{}, Transport: deaf{}}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for want, edit := range map[string]func(*Options){
		"node":      func(o *Options) { o.Node = "" },
		"bind":      func(o *Options) { o.Bind = "127.0.0.1" },
		"advertise": func(o *Options) { o.Advertise = "name:1" },
		"keys":      func(o *Options) { o.Keys = nil },
		"peers":     func(o *Options) { o.Peers = nil },
		"profile":   func(o *Options) { o.Profile = "slow" },
		"join":      func(o *Options) { o.Join = []string{"x"} },
		"label":     func(o *Options) { o.Label = strings.Repeat("x", 300) },
	} {
		o := good
		edit(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestRankIsEven(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b", "c", "d", "e"}
	first := map[string]int{}
	for i := range 5000 {
		first[rank(testID(i), names)[0]]++
	}
	for n, k := range first {
		if k < 800 || k > 1200 {
			t.Errorf("%s is first for %d of 5,000 jobs", n, k)
		}
	}
	// Without the first the rest stays in order.
	all := rank("j", names)
	less := rank("j", all[1:])
	if !cmp.Equal(all[1:], less) {
		t.Errorf("%v, then %v", all, less)
	}
}
