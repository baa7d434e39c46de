package ckpt

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestWhatTheMachineTookAlongIsNotWhole: after a loss of power only what is sealed is sure to be on the disk.
func TestWhatTheMachineTookAlongIsNotWhole(t *testing.T) {
	t.Parallel()
	cut := func(name string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, name), 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		state stage
		boot  string // of the plan
		lost  bool
	}{
		"all was written":                      {nil, dumped, "another", false},
		"an image is cut short":                {cut("images/pages-1.img"), dumped, "another", true},
		"the layer is cut short":               {cut(layerName), dumped, "another", true},
		"an image has no name":                 {func(t *testing.T, dir string) { _ = os.Remove(filepath.Join(dir, "images/pages-1.img")) }, dumped, "another", true},
		"the log, which nobody needs":          {cut("work/dump.log"), dumped, "another", false},
		"in the middle of the dump":            {nil, dumping, "another", true},
		"in this boot all is what was written": {nil, dumped, "this", false},
		"an older agent's":                     {nil, dumped, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := shelf(t)
			k.o.Proc = t.TempDir()
			id := filepath.Join(k.o.Proc, "sys/kernel/random/boot_id")
			if err := errors.Join(os.MkdirAll(filepath.Dir(id), 0o755), os.WriteFile(id, []byte("this\n"), 0o644)); err != nil {
				t.Fatal(err)
			}
			r := dumpedRef(t, k)
			dir, err := k.store.open(r.partial())
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			p, err := readPlan(dir, r)
			if err != nil {
				t.Fatal(err)
			}
			p.Boot = c.boot
			if err := p.complete(dir); err != nil {
				t.Fatal(err)
			}
			if p.State = c.state; c.state != dumped {
				if err := writePlan(dir, p); err != nil {
					t.Fatal(err)
				}
			}
			if c.spoil != nil {
				c.spoil(t, k.store.path(r.partial()))
			}
			if _, _, err := k.Seal(t.Context(), r); c.lost && err == nil {
				t.Error("it is sealed")
			} else if !c.lost {
				if err != nil {
					t.Errorf("it is not sealed: %v", err)
				}
				return
			}
			if src, err := k.open(t.Context(), r, true); err == nil {
				src.close()
				t.Error("it is restored from")
			}
			if m, err := k.TakeUp(t.Context(), r); err != nil || m.Sequence != 0 {
				t.Errorf("it is taken up: %+v, %v", m, err)
			}
			if _, _, err := k.store.find(r); !errors.Is(err, ErrNone) {
				t.Errorf("it is still there: %v", err)
			}
		})
	}
}
