package monasca

import (
	"os"
	"slices"
	"testing"
)

// A disk that takes nothing, as a full one: memory takes over, within bounds, and the order stays.
func TestSpoolWithoutADisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := testSpool(t, dir, 1<<30)
	put(t, s, 0, 3, 5)
	broken, err := os.Open(segmentPath(dir, 1)) // for reading: no write succeeds
	if err != nil {
		t.Fatal(err)
	}
	_ = s.active.Close()
	s.active = broken
	s.next = 2
	if err := os.Mkdir(segmentPath(dir, 2), 0o700); err != nil { // and no file can be made
		t.Fatal(err)
	}
	if err := s.append([][]byte{[]byte("3 x"), []byte("4 x"), []byte("5 x")}, 3, 5); err == nil {
		t.Fatal("no error")
	}
	if got := take(t, s, 4); !slices.Equal(got, numbers(0, 4)) {
		t.Errorf("got %v", got)
	}
	b, err := s.oldestBatch(-1)
	if err != nil || len(b.lines) != 2 || s.left != 2 {
		t.Fatalf("%v, %v, %d", b, err, s.left)
	}
	if err := os.Remove(segmentPath(dir, 2)); err != nil {
		t.Fatal(err)
	}
	put(t, s, 6, 2, 5) // the disk is back: what was in memory goes before it
	if !s.holds(b, -1) {
		t.Error("the batch that is being sent is lost")
	}
	if err := s.settle(b, 1); err != nil {
		t.Fatal(err)
	}
	if len(s.memory) != 0 || s.memBytes != 0 {
		t.Errorf("%d records are in memory", len(s.memory))
	}
	if got := take(t, testSpool(t, dir, 1<<30), 10); !slices.Equal(got, numbers(5, 8)) {
		t.Errorf("got %v", got)
	}
}

func TestMemoryIsBoundedWithoutADisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := testSpool(t, dir, 1<<30)
	if err := os.Mkdir(segmentPath(dir, 1), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		_ = s.append([][]byte{[]byte(noise(i, 400<<10))}, 1, 1)
	}
	if s.memBytes > maxMemory || s.left != len(s.memory) || s.lost[Overflow] != 30-len(s.memory) {
		t.Errorf("%d bytes, %d left, %v", s.memBytes, s.left, s.lost)
	}
	if err := os.Remove(segmentPath(dir, 1)); err != nil {
		t.Fatal(err)
	}
}
