package ckpt

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// beside is a Keeper of another node on the same directory.
func beside(t *testing.T, k *Keeper, node string) *Keeper {
	t.Helper()
	s, err := openStore(k.store.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.root.Close() })
	b := shelf(t)
	b.store, b.o.Dir = s, s.dir
	k.o.Shared, b.o.Shared, b.o.Node, b.o.Keep = true, true, node, 1
	return b
}

func TestInASharedDirectoryNodesLeaveEachOthersAlone(t *testing.T) {
	t.Parallel()
	a := shelf(t)
	a.o.Node, a.o.Keep = "a", 1
	b := beside(t, a, "b")
	old, _, _ := stock(t, a, 1)
	r, m, sum := stock(t, a, 2)
	o := order(r, sum)
	o.Open = func(context.Context, Position) (io.ReadCloser, error) { t.Error("it is here"); return nil, ErrNone }
	if out, err := b.Fetch(t.Context(), o); err != nil || !out.Already || out.Manifest.Node != "a" {
		t.Fatalf("%+v %v", out, err)
	}
	// One that a is taking.
	taking, err := a.store.next(testJob, 0)
	if err != nil {
		t.Fatal(err)
	}
	writeStock(t, a, taking, map[string][]byte{"images/x": []byte("x")})
	for _, wanted := range []bool{true, false} {
		if err := b.Prune(t.Context(), func(string) bool { return wanted }); err != nil {
			t.Fatal(err)
		}
	}
	list, err := b.store.entries(testJob)
	if err != nil || len(list) != 3 {
		t.Fatalf("b has removed what is a's: %v %v", list, err)
	}
	for _, e := range list {
		if _, err := b.takeUp(t.Context(), e); err != nil {
			t.Errorf("recover of %s: %v", e.name, err)
		}
	}
	if err := b.Remove(t.Context(), taking); !errors.Is(err, ErrBusy) {
		t.Errorf("remove one that a is taking: %v", err)
	}
	if _, err := b.open(t.Context(), taking, false); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "node a") {
		t.Errorf("restore one that a is taking: %v", err)
	}
	if next, err := b.store.next(testJob, 0); err != nil || next.Sequence != taking.Sequence+1 {
		t.Errorf("b's next: %v %v", next, err)
	}
	if _, _, err := a.Seal(t.Context(), taking); err != nil {
		t.Fatal(err)
	}
	if err := a.Prune(t.Context(), func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[Ref]bool{old: false, r: false, taking: true} {
		if _, err := b.Verify(t.Context(), ref); (err == nil) != want {
			t.Errorf("%s: %v", ref, err)
		}
	}
	_ = m
}

func TestWhatIsLeftOfAFetchIsRemovedInTime(t *testing.T) {
	t.Parallel()
	k := shelf(t)
	r := sealedRef(t, k)
	f, err := k.openFetch(t.Context(), Ref{r.Job, 9}, FetchOptions{Digest: strings.Repeat("0", 64)})
	if err != nil {
		t.Fatal(err)
	}
	f.close()
	prune := func() int {
		t.Helper()
		if err := k.Prune(t.Context(), func(string) bool { return true }); err != nil {
			t.Fatal(err)
		}
		list, err := k.store.entries(r.Job)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	if n := prune(); n != 2 {
		t.Errorf("removed at once: %d are left", n)
	}
	before := time.Now().Add(-2 * leftTime)
	dir := k.store.path(f.name)
	if err := errors.Join(os.Chtimes(dir+"/"+fetchName, before, before), os.Chtimes(dir, before, before)); err != nil {
		t.Fatal(err)
	}
	leave, err := k.locks.sealing(t.Context(), Ref{r.Job, 9}) // as a fetch that is under way
	if err != nil {
		t.Fatal(err)
	}
	if n := prune(); n != 2 {
		t.Errorf("removed while it is fetched: %d are left", n)
	}
	leave()
	if n := prune(); n != 1 {
		t.Errorf("%d are left after hours", n)
	}
}

func TestStreamsKeepToTheirRate(t *testing.T) {
	t.Parallel()
	a := shelf(t)
	r, _, sum := stock(t, a, 1)
	size := int64(len(wire(t, a, r)))
	for name, limit := range map[string]func(*FetchOptions, *SendOptions){
		"sent":    func(_ *FetchOptions, s *SendOptions) { s.Rate = NewRate(size / 20) },
		"fetched": func(f *FetchOptions, _ *SendOptions) { f.Rate = NewRate(size / 20) },
	} {
		synctest.Test(t, func(t *testing.T) {
			b := shelf(t)
			var so SendOptions
			o := order(r, sum)
			limit(&o, &so)
			o.Open = func(ctx context.Context, at Position) (io.ReadCloser, error) {
				out, in := io.Pipe()
				so := so
				so.From = at
				go func() { _ = in.CloseWithError(a.Send(ctx, r, in, so)) }()
				return out, nil
			}
			begin := time.Now()
			out, err := b.Fetch(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took < 17*time.Second || took > 21*time.Second || out.Tries != 1 {
				t.Errorf("%s: %s in %d tries", name, took, out.Tries)
			}
		})
	}
	if NewRate(0) != nil {
		t.Error("a limit of nothing")
	}
}

func TestClassesAreToldApart(t *testing.T) {
	t.Parallel()
	base := Class{Arch: "amd64", CPU: "c", Kernel: "6.1", CRIU: "4", Runc: "1", Docker: "26", Driver: "docker"}
	for name, c := range map[string]struct {
		change func(*Class)
		same   bool
	}{
		"nothing": {func(*Class) {}, true}, "Docker": {func(c *Class) { c.Docker = "27" }, true},
		"architecture": {func(c *Class) { c.Arch = "arm64" }, false}, "CPU": {func(c *Class) { c.CPU = "d" }, false}, "kernel": {func(c *Class) { c.Kernel = "6.2" }, false},
		"CRIU": {func(c *Class) { c.CRIU = "" }, false}, "runc": {func(c *Class) { c.Runc = "2" }, false}, "driver": {func(c *Class) { c.Driver = "runtime" }, false},
	} {
		other := base
		c.change(&other)
		err := other.Compatible(base)
		if (err == nil) != c.same || (base.Digest() == other.Digest()) != c.same {
			t.Errorf("%s: %v, digests %x %x", name, err, base.Digest(), other.Digest())
		}
		if err != nil && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	shifted := base
	shifted.Kernel, shifted.CRIU = "6.14", ""
	if shifted.Digest() == base.Digest() {
		t.Error("fields run into each other")
	}
}

func TestNodesOfASharedDirectoryHaveFilesOfTheirOwn(t *testing.T) {
	t.Parallel()
	at := func(o Options) string {
		return newDrivers(o)[0].(*runtimeDriver).confOf("c-1-1").restore() + o.scratch()
	}
	a, b := Options{Dir: "/c", Node: "a/../x", Shared: true}, Options{Dir: "/c", Node: "b", Shared: true}
	if at(a) == at(b) || strings.Contains(at(a), "..") {
		t.Errorf("two nodes have %s and %s", at(a), at(b))
	}
	a.Shared, b.Shared = false, false
	if at(a) != at(b) || a.conf() != confDir {
		t.Errorf("alone they have %s and %s", at(a), at(b))
	}
}
