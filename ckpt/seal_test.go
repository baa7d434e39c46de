package ckpt

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shelf is a Keeper that has a store, and nothing that could run a container.
func shelf(t testing.TB) *Keeper {
	t.Helper()
	s, err := openStore(filepath.Join(t.TempDir(), "checkpoints"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.root.Close() })
	return &Keeper{o: Options{Dir: s.dir, Keep: 2}, log: slog.New(slog.DiscardHandler), store: s, disk: make(chan struct{}, 1), free: freeBytes}
}

// dumpedRef makes what Take leaves.
func dumpedRef(t *testing.T, k *Keeper) Ref {
	t.Helper()
	r, err := k.store.next(testJob, 0)
	if err != nil {
		t.Fatal(err)
	}
	dir := k.store.path(r.partial())
	m := sampleManifest()
	m.Sequence, m.Files, m.Bytes, m.Taken = r.Sequence, nil, 0, time.Unix(int64(r.Sequence), 0)
	for name, text := range map[string]string{"images/inventory.img": "i", "images/pages-1.img": strings.Repeat("p", 300), "work/dump.log": "log", layerName: "tar", "work/docker/config.json": "{}"} {
		if err = os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err = os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err := k.store.open(r.partial())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err = writePlan(d, plan{State: dumped, Manifest: m}); err != nil {
		t.Fatal(err)
	}
	return r
}

func sealedRef(t *testing.T, k *Keeper) Ref {
	t.Helper()
	r := dumpedRef(t, k)
	if _, _, err := k.Seal(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSealingTwiceGivesTheSame(t *testing.T) {
	t.Parallel()
	k := shelf(t)
	r := dumpedRef(t, k)
	m, sum, err := k.Seal(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	n, again, err := k.Seal(t.Context(), r)
	if err != nil || again != sum || n.Bytes != m.Bytes || len(n.Files) != 5 {
		t.Errorf("second: %v %s %v, first %s", n, again, err, sum)
	}
	b, err := os.ReadFile(k.store.path(r.final() + "/" + manifestName))
	if err != nil || digest(b) != sum {
		t.Errorf("digest %s is not that of the manifest: %v", sum, err)
	}
	if _, err = k.Verify(t.Context(), r); err != nil {
		t.Error(err)
	}
}

// TestEveryFlippedBitIsFound damages each byte of each file of a checkpoint in turn.
func TestEveryFlippedBitIsFound(t *testing.T) {
	t.Parallel()
	k := shelf(t)
	r := sealedRef(t, k)
	dir := k.store.path(r.final())
	n := 0
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		good, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for i := range good {
			bad := append([]byte(nil), good...)
			bad[i] ^= 1 << (i % 8)
			if err = os.WriteFile(name, bad, 0o600); err != nil {
				return err
			}
			if _, err = k.Verify(t.Context(), r); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s, byte %d of %d: %v", name, i, len(good), err)
			}
			n++
		}
		return os.WriteFile(name, good, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = k.Verify(t.Context(), r); err != nil || n < 300 {
		t.Errorf("after %d flips: %v", n, err)
	}
}

func TestDamageIsNamed(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		spoil func(k *Keeper, r Ref, dir string) error
		names string
	}{
		"missing file":     {func(_ *Keeper, _ Ref, dir string) error { return os.Remove(dir + "/images/pages-1.img") }, "images/pages-1.img"},
		"last one missing": {func(_ *Keeper, _ Ref, dir string) error { return os.Remove(filepath.Join(dir, workName, dumpLog)) }, "work/dump.log"},
		"additional image": {func(_ *Keeper, _ Ref, dir string) error { return os.WriteFile(dir+"/images/x.img", nil, 0o600) }, "images/x.img"},
		"additional file":  {func(_ *Keeper, _ Ref, dir string) error { return os.WriteFile(dir+"/x", nil, 0o600) }, "x"},
		"plan left":        {func(_ *Keeper, _ Ref, dir string) error { return os.WriteFile(dir+"/plan.json", nil, 0o600) }, planName},
		"half written":     {func(_ *Keeper, _ Ref, dir string) error { return os.WriteFile(dir+"/x.tmp", nil, 0o600) }, "x.tmp"},
		"shorter":          {func(_ *Keeper, _ Ref, dir string) error { return os.Truncate(dir+"/layer.tar", 1) }, layerName},
		"no manifest":      {func(_ *Keeper, _ Ref, dir string) error { return os.Remove(dir + "/manifest.json") }, manifestName},
		"no digest":        {func(_ *Keeper, _ Ref, dir string) error { return os.Remove(dir + "/manifest.sha256") }, sumName},
		"link for a file": {func(_ *Keeper, _ Ref, dir string) error {
			return errors.Join(os.Rename(dir+"/layer.tar", filepath.Dir(dir)+"/elsewhere"), os.Symlink("../elsewhere", dir+"/layer.tar"))
		}, layerName},
		"fifo for a file": {func(_ *Keeper, _ Ref, dir string) error {
			return errors.Join(os.Remove(dir+"/layer.tar"), syscall.Mkfifo(dir+"/layer.tar", 0o600))
		}, layerName},
		"another's manifest": {func(k *Keeper, r Ref, dir string) error {
			return os.Rename(dir, filepath.Dir(dir)+"/"+strconv.Itoa(r.Sequence+7))
		}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := shelf(t)
			r := sealedRef(t, k)
			if err := tt.spoil(k, r, k.store.path(r.final())); err != nil {
				t.Fatal(err)
			}
			if tt.names == "" {
				r.Sequence += 7
			}
			if _, err := k.Verify(t.Context(), r); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), tt.names) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestSealEndsWhatAKillInterrupted(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"described", "planless"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			k := shelf(t)
			r := dumpedRef(t, k)
			k.hook = func(step string) {
				if step == at {
					panic("killed")
				}
			}
			func() {
				defer func() { _ = recover() }()
				_, _, _ = k.Seal(t.Context(), r)
			}()
			k.hook = nil
			if _, _, err := k.Seal(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if _, err := k.Verify(t.Context(), r); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNameWaitsForTheRestore(t *testing.T) {
	t.Parallel()
	k := shelf(t)
	r := dumpedRef(t, k)
	leave, err := k.locks.share(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	if _, _, err = k.Seal(ctx, r); !errors.Is(err, context.DeadlineExceeded) || !k.store.isDir(r.partial()) {
		t.Errorf("sealed under a restore: %v", err)
	}
	if err = k.Remove(t.Context(), r); !errors.Is(err, ErrBusy) {
		t.Errorf("removed under a restore: %v", err)
	}
	leave()
	if _, _, err = k.Seal(t.Context(), r); err != nil {
		t.Error(err)
	}
}

func TestPruneKeepsTheNewestGood(t *testing.T) {
	t.Parallel()
	k := shelf(t)
	refs := []Ref{sealedRef(t, k), sealedRef(t, k), sealedRef(t, k), sealedRef(t, k)}
	if err := os.Truncate(k.store.path(refs[3].final()+"/"+manifestName), 10); err != nil { // the newest is damaged
		t.Fatal(err)
	}
	if err := k.Prune(t.Context(), func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, true, true} {
		if _, err := k.Verify(t.Context(), refs[i]); (err == nil) != want {
			t.Errorf("checkpoint %s: %v", refs[i], err)
		}
	}
	if r := sealedRef(t, k); r.Sequence != 5 {
		t.Errorf("sequence %d is given again", r.Sequence)
	}
}

// TestPruneSparesWhatCantBeReadNow: a passing error is no damage.
func TestPruneSparesWhatCantBeReadNow(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("lowers its own limit of open files")
	}
	k := shelf(t)
	r := sealedRef(t, k)
	d, err := k.store.open(r.final())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var was syscall.Rlimit
	if err = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 3, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	_, _, err = readManifest(d, r)
	if rerr := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); rerr != nil {
		t.Fatal(rerr)
	}
	if err == nil || errors.Is(err, ErrDamaged) {
		t.Errorf("too many open files is told as %v", err)
	}
}
