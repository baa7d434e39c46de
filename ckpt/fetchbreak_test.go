package ckpt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// cutAfter ends a reader after n bytes, as a broken connection does.
func cutAfter(r io.Reader, n int64) io.Reader {
	return io.MultiReader(io.LimitReader(r, n), broken{})
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

func TestBrokenStreamsAreTakenUp(t *testing.T) {
	t.Parallel()
	a := shelf(t)
	r, m, sum := stock(t, a, 1)
	whole := int64(len(wire(t, a, r)))
	synctest.Test(t, func(t *testing.T) {
		b := shelf(t)
		o := order(r, sum)
		o.Open = from(a, r, func(_ int, in io.Reader) io.Reader { return cutAfter(in, 2*chunkSize) })
		out, err := b.Fetch(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		same(t, b, r, m)
		if out.Tries < 4 || out.Wire > whole+int64(out.Tries)*(chunkSize+8<<10) {
			t.Errorf("%d tries, %d bytes of %d", out.Tries, out.Wire, whole)
		}
	})
	synctest.Test(t, func(t *testing.T) { // one that never gets anywhere is given up, and says why
		b := shelf(t)
		o := order(r, sum)
		o.Open = from(a, r, func(_ int, in io.Reader) io.Reader { return cutAfter(in, 3000) })
		begin := time.Now()
		_, err := b.Fetch(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), "given up after 5 tries") || !strings.Contains(err.Error(), "connection reset") && !strings.Contains(err.Error(), "EOF") {
			t.Errorf("%v", err)
		}
		if took := time.Since(begin); took < time.Second || took > time.Minute {
			t.Errorf("it took %s", took)
		}
	})
	synctest.Test(t, func(t *testing.T) { // a silent one is given up for another
		b := shelf(t)
		o := order(r, sum)
		o.Open = from(a, r, func(try int, in io.Reader) io.Reader {
			if try > 1 {
				return in
			}
			return io.MultiReader(io.LimitReader(in, 3*chunkSize), silent{})
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := b.Fetch(ctx, o); err == nil {
			same(t, b, r, m)
		} else {
			t.Error(err)
		}
	})
}

// silent says nothing for a minute, longer than a stall may last, and then breaks.
type silent struct{}

func (silent) Read([]byte) (int, error) {
	time.Sleep(time.Minute)
	return 0, errors.New("closed")
}

func TestCrashedFetchGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	a, b := shelf(t), shelf(t)
	r, m, sum := stock(t, a, 1)
	whole := int64(len(wire(t, a, r)))
	o := order(r, sum)
	ctx, cancel := context.WithCancel(t.Context())
	o.Progress = func(done, all int64) {
		if done > all/2 {
			cancel()
		}
	}
	o.Open = from(a, r, nil)
	if _, err := b.Fetch(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	// A new Keeper on the same directory: the old agent was killed.
	s, err := openStore(b.store.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.root.Close()
	again := shelf(t)
	again.store = s
	list, err := again.store.entries(r.Job)
	if err != nil || len(list) != 1 || list[0].ext != fetchExt {
		t.Fatalf("%v %v", list, err)
	}
	if m, err := again.takeUp(t.Context(), list[0]); err != nil || m.Sequence > 0 {
		t.Fatalf("recover: %v %v", m, err)
	}
	if err := again.Prune(t.Context(), func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	// What the crash has spoilt of the file under way is found out.
	spoilt := false
	for _, f := range m.Files {
		if fi, err := os.Stat(filepath.Join(s.path(r.fetch()), f.Name)); err == nil && fi.Size() < f.Size && fi.Size() > 10 {
			w, err := os.OpenFile(filepath.Join(s.path(r.fetch()), f.Name), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.WriteAt([]byte("spoilt"), 3)
			if err = errors.Join(err, w.Close()); err != nil {
				t.Fatal(err)
			}
			spoilt = true
		}
	}
	o.Progress = nil
	out, err := again.Fetch(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	same(t, again, r, m)
	if out.Wire > whole || spoilt && out.Tries < 2 {
		t.Errorf("%d of %d bytes in %d tries", out.Wire, whole, out.Tries)
	}
}

func TestCrashBeforeTheRenameIsEndedByRecover(t *testing.T) {
	t.Parallel()
	a, b := shelf(t), shelf(t)
	r, m, sum := stock(t, a, 1)
	o := order(r, sum)
	o.Open = from(a, r, nil)
	ctx, cancel := context.WithCancel(t.Context())
	leave, err := b.locks.share(ctx, r) // so that it can't be renamed
	if err != nil {
		t.Fatal(err)
	}
	b.hook = func(step string) {
		if step == "fetched" {
			cancel()
		}
	}
	if _, err := b.Fetch(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	leave()
	list, err := b.store.entries(r.Job)
	if err != nil || len(list) != 1 || list[0].ext != fetchExt {
		t.Fatalf("%v %v", list, err)
	}
	if _, err := b.takeUp(t.Context(), list[0]); err != nil {
		t.Fatal(err)
	}
	same(t, b, r, m)
}

// TestAFetchIsOnTheDiskBeforeItCountsAsWhole: by fetch.json a crash knows that it is not whole; that is taken away when all else is synced.
func TestAFetchIsOnTheDiskBeforeItCountsAsWhole(t *testing.T) {
	t.Parallel()
	a, b := shelf(t), shelf(t)
	r, m, sum := stock(t, a, 1)
	o := order(r, sum)
	o.Open = from(a, r, nil)
	var there []string
	b.hook = func(step string) {
		if _, err := b.store.root.Lstat(r.fetch() + "/" + fetchName); err == nil {
			there = append(there, step)
		}
	}
	if _, err := b.Fetch(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(there, []string{"durable"}) {
		t.Errorf("fetch.json was there at %q", there)
	}
	same(t, b, r, m)
}

func TestBusySourceIsWaitedFor(t *testing.T) {
	t.Parallel()
	a := shelf(t)
	r, m, sum := stock(t, a, 1)
	synctest.Test(t, func(t *testing.T) {
		b := shelf(t)
		o := order(r, sum)
		open, tries := from(a, r, nil), 0
		o.Open = func(ctx context.Context, at Position) (io.ReadCloser, error) {
			if tries++; tries < 12 {
				return nil, ErrBusy
			}
			return open(ctx, at)
		}
		if out, err := b.Fetch(t.Context(), o); err != nil || out.Tries != 12 {
			t.Errorf("%d tries, %v", out.Tries, err)
		}
		same(t, b, r, m)
		tries = -100
		c, begin := shelf(t), time.Now()
		if _, err := c.Fetch(t.Context(), o); !errors.Is(err, ErrBusy) || time.Since(begin) < time.Minute || time.Since(begin) > 10*time.Minute {
			t.Errorf("given up after %s: %v", time.Since(begin), err)
		}
	})
}

// A cut or a flip anywhere in a stream never yields a checkpoint that differs.
func TestSpoiltStreamsNeverPass(t *testing.T) {
	t.Parallel()
	a := shelf(t)
	r, m, sum := stock(t, a, 1)
	good := wire(t, a, r)
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		s, err := openStore(filepath.Join(dir, fmt.Sprint(n)))
		if err != nil {
			rt.Fatal(err)
		}
		defer s.root.Close()
		b := shelf(t)
		b.store = s
		bad := bytes.Clone(good)
		switch rapid.SampledFrom([]string{"flip", "cut", "add", "swap"}).Draw(rt, "how") {
		case "flip":
			bad[rapid.IntRange(0, len(bad)-1).Draw(rt, "at")] ^= byte(rapid.IntRange(1, 255).Draw(rt, "by"))
		case "cut":
			bad = bad[:rapid.IntRange(0, len(bad)-1).Draw(rt, "at")]
		case "add":
			bad = append(bad, rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(rt, "what")...)
		case "swap":
			i, j := rapid.IntRange(0, len(bad)-1).Draw(rt, "i"), rapid.IntRange(0, len(bad)-1).Draw(rt, "j")
			if bad[i] == bad[j] {
				return
			}
			bad[i], bad[j] = bad[j], bad[i]
		}
		o := order(r, sum)
		f, err := b.openFetch(t.Context(), r, FetchOptions{Digest: o.Digest})
		if err != nil {
			rt.Fatal(err)
		}
		defer f.close()
		if err := f.receive(t.Context(), bytes.NewReader(bad)); err == nil {
			rt.Fatal("a spoilt stream is whole")
		}
		if list, _ := b.List(t.Context(), ""); len(list) > 0 {
			rt.Fatal("a checkpoint is there")
		}
		// The good stream then makes it whole, from where the bad one has left it.
		o.Open = from(a, r, nil)
		f.close()
		if _, err := b.Fetch(t.Context(), o); err != nil {
			rt.Fatal(err)
		}
		if got, err := b.Verify(t.Context(), r); err != nil || got.Bytes != m.Bytes {
			rt.Fatal(err)
		}
	})
}
