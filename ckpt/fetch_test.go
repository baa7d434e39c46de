package ckpt

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// stock puts a sealed checkpoint with files of every kind of content on a shelf.
func stock(t testing.TB, k *Keeper, seed uint64) (Ref, Manifest, string) {
	t.Helper()
	r, err := k.store.next(testJob, 0)
	if err != nil {
		t.Fatal(err)
	}
	src := rand.New(rand.NewPCG(seed, 1))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(src.Uint32())
		}
		return b
	}
	content := map[string][]byte{
		"images/pages-1.img": bytes.Join([][]byte{noise(chunkSize + 5), make([]byte, 2*chunkSize), bytes.Repeat([]byte("text "), 90_000), make([]byte, chunkSize)}, nil),
		"images/empty.img":   {}, "images/a/deep.img": noise(1000), "images/zero.img": make([]byte, 3*chunkSize), "work/dump.log": []byte("log"),
		"images/noise.img": noise(5 * chunkSize), layerName: []byte("tar"), "work/last": {},
	}
	writeStock(t, k, r, content)
	m, sum, err := k.Seal(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return r, m, sum
}

// writeStock writes what Take leaves, with a content.
func writeStock(t testing.TB, k *Keeper, r Ref, content map[string][]byte) {
	t.Helper()
	dir := k.store.path(r.partial())
	for name, b := range content {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err := k.store.open(r.partial())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, sub := range []string{imagesName, workName} {
		if err := d.MkdirAll(sub, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	m := sampleManifest()
	m.Sequence, m.Files, m.Bytes, m.Taken, m.Node = r.Sequence, nil, 0, time.Unix(int64(r.Sequence), 0), k.o.Node
	if err := writePlan(d, plan{State: dumped, Manifest: m}); err != nil {
		t.Fatal(err)
	}
}

// wire is the whole stream of a checkpoint.
func wire(t testing.TB, k *Keeper, r Ref) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := k.Send(t.Context(), r, &b, SendOptions{}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// from is a source that sends what k has, through a pipe; spoil may change each stream.
func from(k *Keeper, r Ref, spoil func(try int, in io.Reader) io.Reader) func(context.Context, Position) (io.ReadCloser, error) {
	var tries atomic.Int64
	return func(ctx context.Context, at Position) (io.ReadCloser, error) {
		out, in := io.Pipe()
		context.AfterFunc(ctx, func() { _ = out.Close() })
		go func() { _ = in.CloseWithError(k.Send(ctx, r, in, SendOptions{From: at})) }()
		if spoil == nil {
			return out, nil
		}
		return struct {
			io.Reader
			io.Closer
		}{spoil(int(tries.Add(1)), out), out}, nil
	}
}

func order(r Ref, sum string) FetchOptions {
	return FetchOptions{Job: r.Job, Sequence: r.Sequence, Digest: sum}
}

// same says whether a checkpoint is whole on a shelf, with the modes it should have.
func same(t *testing.T, k *Keeper, r Ref, want Manifest) {
	t.Helper()
	m, err := k.Verify(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want.Files, m.Files); d != "" {
		t.Error(d)
	}
	err = filepath.WalkDir(k.store.path(r.final()), func(name string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err == nil && fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", name, fi.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if list, err := k.store.entries(r.Job); err != nil || len(list) != 1 {
		t.Errorf("the store has %v, %v", list, err)
	}
}

func TestFetchedIsWhatWasSent(t *testing.T) {
	t.Parallel()
	a, b := shelf(t), shelf(t)
	r, m, sum := stock(t, a, 1)
	o := order(r, sum)
	o.Open = from(a, r, nil)
	last := int64(0)
	o.Progress = func(done, whole int64) { last = done * whole }
	out, err := b.Fetch(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	same(t, b, r, m)
	if out.Tries != 1 || out.Already || out.Wire > m.Bytes*3/4 || out.Wire < 6*chunkSize || last != m.Bytes*m.Bytes {
		t.Errorf("%d tries, %d of %d bytes, progress %d", out.Tries, out.Wire, m.Bytes, last)
	}
	o.Open = func(context.Context, Position) (io.ReadCloser, error) { t.Error("asked again"); return nil, ErrNone }
	if out, err = b.Fetch(t.Context(), o); err != nil || !out.Already || out.Manifest.Bytes != m.Bytes {
		t.Errorf("the second time: %+v %v", out, err)
	}
	if next, err := b.store.next(r.Job, 0); err != nil || next.Sequence != r.Sequence+1 {
		t.Errorf("its own next is %v, %v", next, err)
	}
	if next, err := b.store.next(r.Job, 40); err != nil || next.Sequence != 41 {
		t.Errorf("above 40 comes %v, %v", next, err)
	}
}

func TestSequencesOfFetchedOnesAreNotGivenAgain(t *testing.T) {
	t.Parallel()
	a, b := shelf(t), shelf(t)
	var r Ref
	var sum string
	for range 3 {
		r, _, sum = stock(t, a, 1)
	}
	o := order(r, sum)
	o.Open = from(a, r, nil)
	if _, err := b.Fetch(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if next, err := b.store.next(r.Job, 0); err != nil || next.Sequence != 4 {
		t.Errorf("%v %v", next, err)
	}
}

func TestSequenceOfAnotherCheckpointIsNeverOverwritten(t *testing.T) {
	t.Parallel()
	a, b := shelf(t), shelf(t)
	ra, _, suma := stock(t, a, 1)
	rb, mb, _ := stock(t, b, 2)
	o := order(ra, suma)
	o.Open = from(a, ra, nil)
	if _, err := b.Fetch(t.Context(), o); !errors.Is(err, ErrTaken) || ra != rb {
		t.Errorf("%v", err)
	}
	same(t, b, rb, mb)
	c := shelf(t)
	dumpedRef(t, c) // one that is being taken
	if _, err := c.Fetch(t.Context(), o); !errors.Is(err, ErrTaken) {
		t.Errorf("%v", err)
	}
}

func TestTwoFetchesAreOne(t *testing.T) {
	t.Parallel()
	a, b := shelf(t), shelf(t)
	r, m, sum := stock(t, a, 1)
	var opened, already atomic.Int64
	open := from(a, r, nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			o := order(r, sum)
			o.Open = func(ctx context.Context, at Position) (io.ReadCloser, error) {
				opened.Add(1)
				return open(ctx, at)
			}
			out, err := b.Fetch(t.Context(), o)
			if err != nil {
				t.Error(err)
			}
			if out.Already {
				already.Add(1)
			}
		})
	}
	wg.Wait()
	if opened.Load() != 1 || already.Load() != 7 {
		t.Errorf("%d streams, %d waited", opened.Load(), already.Load())
	}
	same(t, b, r, m)
}

func TestNoSpaceIsKnownBefore(t *testing.T) {
	t.Parallel()
	a := shelf(t)
	r, m, sum := stock(t, a, 1)
	for name, spoil := range map[string]func(*Keeper, *FetchOptions){
		"the disk":    func(k *Keeper, _ *FetchOptions) { k.free = func(string) (int64, error) { return m.Bytes, nil } },
		"the limit":   func(k *Keeper, _ *FetchOptions) { k.o.MaxBytes = m.Bytes },
		"of this one": func(_ *Keeper, o *FetchOptions) { o.MaxBytes = m.Bytes - 1 },
	} {
		b := shelf(t)
		o := order(r, sum)
		o.Open = from(a, r, nil)
		spoil(b, &o)
		if _, err := b.Fetch(t.Context(), o); !errors.Is(err, ErrSpace) {
			t.Errorf("%s: %v", name, err)
		}
		if n, err := b.used(t.Context()); err != nil || n > 1<<10 {
			t.Errorf("%s: %d bytes are left, %v", name, n, err)
		}
	}
}

func TestBadOrdersAndSources(t *testing.T) {
	t.Parallel()
	a, b := shelf(t), shelf(t)
	r, _, sum := stock(t, a, 1)
	good := order(r, sum)
	good.Open = from(a, r, nil)
	for name, spoil := range map[string]func(*FetchOptions){
		"digest": func(o *FetchOptions) { o.Digest = "ab" }, "job": func(o *FetchOptions) { o.Job = "../x" }, "sequence": func(o *FetchOptions) { o.Sequence = 0 },
		"source": func(o *FetchOptions) { o.Open = nil }, "bytes": func(o *FetchOptions) { o.MaxBytes = -1 },
		"other digest": func(o *FetchOptions) { o.Digest = strings.Repeat("0", 64) },
		"other number": func(o *FetchOptions) { o.Sequence = 7 },
		"it has it not": func(o *FetchOptions) {
			o.Open = func(context.Context, Position) (io.ReadCloser, error) { return nil, ErrNone }
		},
	} {
		o := good
		spoil(&o)
		begin := time.Now()
		if _, err := b.Fetch(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		} else if time.Since(begin) > 30*time.Second {
			t.Errorf("%s: tried again and again: %v", name, err)
		}
	}
	for _, at := range []Position{{-1, 0}, {0, -1}, {0, 1 << 40}, {99, 0}} {
		if err := a.Send(t.Context(), r, io.Discard, SendOptions{From: at}); !errors.Is(err, ErrNone) {
			t.Errorf("from %v: %v", at, err)
		}
	}
	if err := a.Send(t.Context(), dumpedRef(t, a), io.Discard, SendOptions{}); !errors.Is(err, ErrBusy) {
		t.Errorf("one that is not sealed: %v", err)
	}
}
