package ckpt

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestSequenceIsNeverGivenTwice(t *testing.T) {
	t.Parallel()
	k := shelf(t)
	for want := 1; want <= 3; want++ {
		r := sealedRef(t, k)
		if r.Sequence != want {
			t.Errorf("sequence %d, not %d", r.Sequence, want)
		}
		if err := k.Remove(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(k.store.path(testJob+"/"+counter), []byte("spoilt"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(k.store.path(testJob+"/9"), 0o700); err != nil {
		t.Fatal(err)
	}
	if r, err := k.store.next(testJob, 0); err != nil || r.Sequence != 10 {
		t.Errorf("after a spoilt counter: %v %v", r, err)
	}
}

func TestNoLinkIsFollowedAndNoNameLeadsOut(t *testing.T) {
	t.Parallel()
	k := shelf(t)
	r := sealedRef(t, k)
	other := "0000000b-0000-4000-8000-00000000000b"
	if err := os.Symlink(testJob, k.store.path(other)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []Ref{{other, r.Sequence}, {"..", 1}, {"../" + testJob, 1}, {testJob, 0}, {testJob, -1}, {"", 1}, {testJob, 1_000_000_000}, {testJob, 77}} {
		if _, err := k.Verify(t.Context(), bad); !errors.Is(err, ErrNone) {
			t.Errorf("verify %v: %v", bad, err)
		}
		if err := k.Remove(t.Context(), bad); !errors.Is(err, ErrNone) {
			t.Errorf("remove %v: %v", bad, err)
		}
	}
	if _, err := k.Verify(t.Context(), r); err != nil {
		t.Error(err)
	}
	if fi, err := os.Stat(k.store.dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("mode %v %v", fi.Mode(), err)
	}
}

func TestOneOperationPerContainer(t *testing.T) {
	t.Parallel()
	var l locks
	var wg sync.WaitGroup
	got := make(chan func(), 32)
	for range 32 {
		wg.Go(func() {
			if release, err := l.container("c"); err == nil {
				got <- release
			} else if !errors.Is(err, ErrBusy) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(got) != 1 {
		t.Fatalf("%d have it", len(got))
	}
	(<-got)()
	if _, err := l.container("c"); err != nil {
		t.Error(err)
	}
}

func TestProcessFactsAreRead(t *testing.T) {
	t.Parallel()
	locks := []byte("1: POSIX  ADVISORY  WRITE 708 00:19:1234 0 EOF\n1: -> FLOCK ADVISORY WRITE 9 00:19:1 0 EOF\n2: OFDLCK ADVISORY READ -1 00:19:5 0 0\n")
	if got := lockOf(locks, []int{9, 708}); got != 708 {
		t.Errorf("lock of %d", got)
	}
	tcp := []byte("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 0100007F:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 590 1 0 100 0 0 10 0\n" +
		"   1: 0100007F:07E8 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 591 1 0 100 0 0 10 0\n")
	if got := connected(tcp, []string{"590", "591"}); got != "591" {
		t.Errorf("connected %q", got)
	}
	if w, m := parseFdinfo([]byte("pos:\t0\nflags:\t0102001\nmnt_id:\t23\nino:\t3\n")); !w || m != 23 {
		t.Errorf("writable %t, mount %d", w, m)
	}
	if got := mountPoints([]byte("36 35 98:0 /mnt1 /mnt\\0402 rw - ext3 /dev/root rw\n"))[36]; got != "/mnt 2" {
		t.Errorf("mount point %q", got)
	}
	if n := resident("/proc", []int{os.Getpid()}); n < 1<<20 || n > 1<<34 {
		t.Errorf("resident %d", n)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found := false
	for _, o := range opened("/proc/self", os.Getpid()) {
		found = found || o.name == f.Name() && o.writable && o.regular && o.mount > 0
	}
	if !found {
		t.Error("a file of our own that is open for writing is not seen")
	}
}
