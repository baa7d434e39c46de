package monasca

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var silent = slog.New(slog.DiscardHandler)

// testSpool opens a spool and closes it at the test's end.
func testSpool(t *testing.T, dir string, most int64) *spool {
	t.Helper()
	s, err := openSpool(dir, most, silent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// put appends a batch of n numbered lines with a filler of so many bytes that does not compress.
func put(t testing.TB, s *spool, first, n, filler int) {
	t.Helper()
	var lines [][]byte
	for i := range n {
		lines = append(lines, fmt.Appendf(nil, "%d %s", first+i, noise(first+i, filler)))
	}
	if err := s.append(lines, int64(first), int64(first+n-1)); err != nil {
		t.Fatal(err)
	}
}

// noise is text that does not compress, and no line break.
func noise(seed, n int) string {
	var b strings.Builder
	x := uint64(seed)*2862933555777941757 + 3037000493
	for range n {
		x = x*6364136223846793005 + 1442695040888963407
		b.WriteByte(byte('!' + (x>>33)%90))
	}
	return b.String()
}

// take settles up to most measurements and returns the numbers of them.
func take(t testing.TB, s *spool, most int) []int {
	t.Helper()
	var got []int
	for len(got) < most {
		b, err := s.oldestBatch(-1)
		if err != nil {
			t.Fatal(err)
		}
		if b == nil {
			break
		}
		n := min(len(b.lines), most-len(got))
		for _, l := range b.lines[:n] {
			var i int
			if _, err := fmt.Sscan(string(bytes.Fields(l)[0]), &i); err != nil {
				t.Fatal(err)
			}
			got = append(got, i)
		}
		if err := s.settle(b, n); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

func numbers(from, to int) []int {
	var list []int
	for i := from; i < to; i++ {
		list = append(list, i)
	}
	return list
}

func TestSpoolGivesBackInOrderWhateverIsClosedBetween(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		s, err := openSpool(dir, 1<<30, silent)
		if err != nil {
			rt.Fatal(err)
		}
		s.part = 300 // several files
		var got []int
		put1 := 0
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) {
				n := rapid.IntRange(1, 5).Draw(rt, "n")
				put(t, s, put1, n, 20)
				put1 += n
			},
			"take": func(rt *rapid.T) { got = append(got, take(t, s, rapid.IntRange(1, 7).Draw(rt, "n"))...) },
			"again": func(rt *rapid.T) { // as after kill -9: nothing is closed in order
				if rapid.Bool().Draw(rt, "kill") {
					if s.active != nil {
						_ = s.active.Close()
					}
				} else if err := s.close(); err != nil {
					rt.Fatal(err)
				}
				if s, err = openSpool(dir, 1<<30, silent); err != nil {
					rt.Fatal(err)
				}
				s.part = 300
			},
			"": func(rt *rapid.T) {
				if s.left != put1-len(got) {
					rt.Fatalf("%d are said to be left, of %d put and %d taken", s.left, put1, len(got))
				}
			},
		})
		got = append(got, take(t, s, put1+1)...)
		if diff := cmp.Diff(numbers(0, put1), got); diff != "" {
			rt.Fatal(diff)
		}
		if err := s.close(); err != nil {
			rt.Fatal(err)
		}
	})
}

// A process that is killed leaves a prefix of what it was writing. At whatever byte that ends, all whole records are there, in order,
// and what is written afterwards too.
func TestSpoolTornAtEveryByte(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := testSpool(t, dir, 1<<30)
	var ends []int64
	for i := range 4 {
		put(t, s, 3*i, 3, 5)
		ends = append(ends, s.segments[0].size)
	}
	whole, err := os.ReadFile(segmentPath(dir, 1))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		torn := t.TempDir()
		if err := os.WriteFile(segmentPath(torn, 1), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s := testSpool(t, torn, 1<<30)
		put(t, s, 100, 2, 5)
		records := 0
		for _, e := range ends {
			if int64(cut) >= e {
				records++
			}
		}
		want := append(numbers(0, 3*records), 100, 101)
		if diff := cmp.Diff(want, take(t, s, 1000)); diff != "" {
			t.Fatalf("cut at %d: %s", cut, diff)
		}
	}
}

// Whatever byte of a file is changed, no measurement is given back that was not put in, and the others are.
func TestSpoolWithAByteChanged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := testSpool(t, dir, 1<<30)
	for i := range 3 {
		put(t, s, 3*i, 3, 5)
	}
	whole, err := os.ReadFile(segmentPath(dir, 1))
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		changed := t.TempDir()
		data := slices.Clone(whole)
		data[at] ^= 0x10
		if err := os.WriteFile(segmentPath(changed, 1), data, 0o600); err != nil {
			t.Fatal(err)
		}
		s := testSpool(t, changed, 1<<30)
		got := take(t, s, 1000)
		bad := 3 * (at * 3 / len(whole)) // all records are of one size
		for i, n := range got {
			if n < 0 || n >= 9 || i > 0 && n <= got[i-1] {
				t.Fatalf("byte %d changed: got %v", at, got)
			}
		}
		if want := numbers(0, bad); len(got) < len(want) || !slices.Equal(got[:len(want)], want) || slices.Contains(got, bad) {
			t.Fatalf("byte %d changed: got %v", at, got)
		}
	}
}

func TestSpoolWithATornCursor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := testSpool(t, dir, 1<<30)
	put(t, s, 0, 5, 5)
	put(t, s, 5, 5, 5)
	if got := take(t, s, 7); len(got) != 7 {
		t.Fatal(got)
	}
	path := filepath.Join(dir, cursorName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := testSpool(t, dir, 1<<30).oldestBatch(-1); err != nil || len(b.lines) != 3 {
		t.Errorf("%v, %v", b, err)
	}
	for cut := range len(whole) {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := openSpool(dir, 1<<30, silent)
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.oldestBatch(-1)
		if err != nil || b == nil || len(b.lines) != 5 {
			t.Fatalf("cut at %d: %v, %v", cut, b, err)
		}
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(whole), `"skip":2`, `"skip":4`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadCursor(dir); err == nil {
		t.Error("a changed cursor is taken")
	}
}

func TestSpoolIsBoundedOldestFirst(t *testing.T) {
	t.Parallel()
	const most = 1 << 20
	s := testSpool(t, t.TempDir(), most)
	for i := range 400 {
		put(t, s, 10*i, 10, 800)
		if s.bytes > most {
			t.Fatalf("%d bytes after %d batches", s.bytes, i)
		}
	}
	lost := s.lost[Overflow]
	if s.bytes < most*8/10 || lost == 0 || lost+s.left != 4000 {
		t.Errorf("%d bytes, %d lost, %d left", s.bytes, lost, s.left)
	}
	if diff := cmp.Diff(numbers(lost, 4000), take(t, s, 5000)); diff != "" {
		t.Error("not the newest are kept")
	}
}

func TestABatchThatIsDroppedWhileItIsSentIsNoneOfTheSpoolsBusiness(t *testing.T) {
	t.Parallel()
	s := testSpool(t, t.TempDir(), 1<<20)
	put(t, s, 0, 10, 800)
	b, err := s.oldestBatch(-1)
	if err != nil || !s.holds(b, -1) {
		t.Fatal(err)
	}
	for i := range 300 {
		put(t, s, 10+10*i, 10, 800)
	}
	if s.holds(b, -1) {
		t.Fatal("it is held still")
	}
	left, head := s.left, s.head
	if err := s.settle(b, 10); err != nil || s.left != left || s.head != head {
		t.Errorf("%v: %d left, was %d", err, s.left, left)
	}
}

func TestSpoolDropsWhatIsTooOld(t *testing.T) {
	t.Parallel()
	s := testSpool(t, t.TempDir(), 1<<20)
	put(t, s, 0, 10, 1)
	put(t, s, 10, 10, 1)
	put(t, s, 20, 10, 1)
	b, err := s.oldestBatch(15) // the second batch has some that are young enough
	if err != nil || len(b.lines) != 10 || s.lost[Expired] != 10 || s.left != 20 {
		t.Errorf("%v: %v, %v, %d", err, b, s.lost, s.left)
	}
	if s.holds(b, 20) {
		t.Error("what has become too old meanwhile is held")
	}
}

func TestSpoolIsPrivateAndLeavesOthersFilesAlone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "s")
	s := testSpool(t, dir, 1<<20)
	other := filepath.Join(dir, "x.spool")
	if err := os.WriteFile(other, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, s, 0, 3, 5)
	for path, want := range map[string]os.FileMode{dir: 0o700, segmentPath(dir, 1): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	take(t, testSpool(t, dir, 1<<20), 10)
	if data, err := os.ReadFile(other); err != nil || string(data) != "mine" {
		t.Errorf("%q, %v", data, err)
	}
}

func FuzzReadRecord(f *testing.F) {
	c, err := newCodec()
	if err != nil {
		f.Fatal(err)
	}
	raw, _, err := c.encode([][]byte{[]byte(`{"a":1}`), []byte(`{"b":2}`)}, 1, 2)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(raw[:20])
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(segmentPath(dir, 1), data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := openSpool(dir, 1<<20, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			b, err := s.oldestBatch(-1 << 62)
			if err != nil {
				t.Fatal(err)
			}
			if b == nil {
				if s.left != 0 {
					t.Fatalf("%d left of nothing", s.left)
				}
				return
			}
			if err := s.settle(b, len(b.lines)); err != nil {
				t.Fatal(err)
			}
		}
		t.Fatal("it has no end")
	})
}

// A record whose checksums are right and whose payload is anything: as a file that somebody made.
func FuzzDecode(f *testing.F) {
	c, err := newCodec()
	if err != nil {
		f.Fatal(err)
	}
	raw, _, err := c.encode([][]byte{[]byte(`{"a":1}`), []byte(`{"b":2}`)}, 1, 2)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw[headerSize:], 2)
	f.Add([]byte{}, 1)
	f.Fuzz(func(t *testing.T, payload []byte, count int) {
		h := header{length: len(payload), count: count, crc: crc32.Checksum(payload, castTab)}
		lines, err := c.decode(h, payload)
		if err == nil && len(lines) != count {
			t.Fatalf("%d lines of %d", len(lines), count)
		}
		if err != nil && !errors.Is(err, errTorn) {
			t.Fatal(err)
		}
	})
}

func FuzzParseCursor(f *testing.F) {
	f.Add([]byte(`{"segment":1,"offset":2,"skip":3,"crc":4}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := parseCursor(data); err == nil && (p.Segment == 0 || p.Offset < 0 || p.Skip < 0) {
			t.Fatalf("%+v", p)
		}
	})
}
