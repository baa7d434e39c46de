package ckpt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"qosctl/cgroup"
	"qosctl/container"
)

func TestIsVfork(t *testing.T) {
	t.Parallel()
	const rest = " 0x7ffe 0x0 0x7f35 0x0 0x0 0x7ffc 0x7f36\n"
	for _, c := range []struct {
		arch, call string
		want       bool
	}{
		{"amd64", "58 0x560d2e989166" + rest, true},
		{"amd64", "56 0x4111" + rest, true}, // CLONE_VM, CLONE_VFORK, SIGCHLD
		{"amd64", "56 0x1200011" + rest, false},
		{"amd64", "56 nonsense" + rest, false},
		{"amd64", "435 0x7ffe" + rest, true},
		{"amd64", "230 0x0" + rest, false},
		{"amd64", "220 0x4111" + rest, false},
		{"arm64", "220 0x4111" + rest, true},
		{"arm64", "435 0x7ffe" + rest, true},
		{"arm64", "58 0x0" + rest, false},
		{"arm64", "56 0x4111" + rest, false},
		{"arm64", "running\n", false},
		{"amd64", "running\n", false},
		{"amd64", "-1 0x7ffc 0x7f36\n", false},
		{"amd64", "", false},
	} {
		if got := isVfork(c.arch, []byte(c.call)); got != c.want {
			t.Errorf("isVfork(%s, %q) = %t", c.arch, c.call, got)
		}
	}
}

// forker is a driver and a host: a process of its container waits for a child made by vfork at the first freezes.
type forker struct {
	driver
	still
	proc          string
	waits         int
	froze, thawed int
}

func (f *forker) pids(cgroup.Group) ([]int, error) { return []int{7}, nil }
func (f *forker) thaw(context.Context, string) error {
	f.thawed++
	return nil
}

func (f *forker) freeze(context.Context, string) error {
	call := "35 0x0 0x0 0x0 0x0 0x0 0x0 0x7ffc 0x7f36\n"
	if f.froze++; f.froze <= f.waits {
		call = "58" + call[2:]
	}
	return os.WriteFile(filepath.Join(f.proc, "7", "task", "9", "syscall"), []byte(call), 0o600)
}

func TestStill(t *testing.T) {
	t.Parallel()
	for _, waits := range []int{0, 1, 3, stillTries - 1, stillTries} {
		proc := t.TempDir()
		if err := os.MkdirAll(filepath.Join(proc, "7", "task", "9"), 0o700); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			f := &forker{proc: proc, waits: waits}
			err := (&taking{k: &Keeper{o: Options{Proc: proc}, host: f}, d: f}).still(t.Context())
			if tries := min(waits+1, stillTries); f.froze != tries || f.thawed != tries-1 {
				t.Errorf("%d waits: frozen %d times, thawed %d times", waits, f.froze, f.thawed)
			}
			if failed := err != nil && strings.Contains(err.Error(), "process 7 "); failed != (waits == stillTries) {
				t.Errorf("%d waits: %v", waits, err)
			}
		})
	}
}

// TestNeverStill: a container that can't be saved, since a process in it waits for a child made by vfork for ever, is told so before CRIU would wait
// for it, and runs on.
func TestNeverStill(t *testing.T) {
	for _, driver := range drivers() {
		t.Run(driver, func(t *testing.T) {
			r := newRig(t, driver)
			needPrograms(t, r.o)
			needCompiled(t, r.o, "/bin/vforker")
			s := r.spec(1, "")
			s.Image, s.Args = programsImage, []string{"/bin/vforker"}
			r.start(s)
			r.await("it counts", func(out string) bool { return strings.Count(out, "\n") > 10 })
			_, err := r.take(false)
			if !errors.Is(err, ErrDump) || !strings.Contains(err.Error(), "made by vfork") || strings.Contains(err.Error(), "CRIU:") {
				t.Errorf("take: %v", err)
			}
			before := len(r.output(1))
			r.await("it counts on", func(out string) bool { return len(out) > before+20 })
			if i, err := r.o.Engine.Inspect(t.Context(), r.id(1)); err != nil || i.State != container.Running {
				t.Errorf("it is %s (%v)", i.State, err)
			}
		})
	}
}
