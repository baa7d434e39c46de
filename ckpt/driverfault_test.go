package ckpt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qosctl/container"
)

// running lists the processes of this node with a program's name. Other tests of the node do not run meanwhile.
func running(t *testing.T, comm string) (pids []int) {
	t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		b, err := os.ReadFile(f)
		if err != nil || strings.TrimSpace(string(b)) != comm {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// strike sends a signal to a program as soon as a file is there that it has made. It returns when the test's context ends at the latest.
func strike(ctx context.Context, t *testing.T, made, comm string, sig unix.Signal) (hit []int) {
	t.Helper()
	for ctx.Err() == nil {
		if found, err := filepath.Glob(made); err == nil && len(found) > 0 {
			hit = running(t, comm)
			for _, pid := range hit {
				_ = unix.Kill(pid, sig) // may have ended just now
			}
			if len(hit) > 0 {
				return hit
			}
		}
		_ = pause(ctx, time.Millisecond) // ends the loop
	}
	return nil
}

// struck runs an operation while a program of it is struck.
func (r *rig) struck(made, comm string, sig unix.Signal, do func() error) error {
	r.t.Helper()
	ctx, stop := context.WithTimeout(r.t.Context(), 20*time.Second)
	hit := make(chan []int, 1)
	go func() { hit <- strike(ctx, r.t, made, comm, sig) }()
	err := do()
	stop()
	if pids := <-hit; len(pids) == 0 {
		r.t.Skipf("SKIPPED, %s was too fast to be hit (%v)", comm, err)
	}
	return err
}

// quiet checks that nothing of CRIU and runc is left at work.
func (r *rig) quiet() {
	r.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(5 * time.Second); ; <-tick.C {
		left := slices.Concat(running(r.t, "criu"), running(r.t, "runc"))
		if len(left) == 0 {
			return
		}
		if time.Now().After(until) {
			for _, pid := range left {
				b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline") // for the error
				r.t.Errorf("left at work: %d %q", pid, strings.ReplaceAll(string(b), "\x00", " "))
				_ = unix.Kill(pid, unix.SIGKILL) // may have ended just now
			}
			return
		}
	}
}

// goesOn checks that the first incarnation counts on without a gap, and that nothing is left of a dump that failed.
func (r *rig) goesOn(before string) {
	r.t.Helper()
	r.quiet()
	all := r.await("it counts on", func(out string) bool { return strings.Count(out, "\n") > strings.Count(before, "\n")+10 })
	for n, l := range strings.Split(all[:strings.LastIndex(all, "\n")], "\n") {
		if number(r.t, l) != n+1 {
			r.t.Fatalf("line %d is %q", n+1, l)
		}
	}
	if list, err := r.k.List(r.t.Context(), jobUUID); err != nil || len(list) != 0 {
		r.t.Errorf("left: %+v, %v", list, err)
	}
	if left, err := filepath.Glob(filepath.Join(r.o.Dir, jobUUID, "*.partial")); err != nil || len(left) != 0 {
		r.t.Errorf("left: %q, %v", left, err)
	}
}

// TestDumpStruck kills or stops CRIU and runc in the middle of a dump: the job goes on, and can be checkpointed after that.
func TestDumpStruck(t *testing.T) {
	begun, within := filepath.Join(workName, dumpLog), filepath.Join(imagesName, "pages-*.img") // the second: CRIU's code is in the job
	for name, c := range map[string]struct {
		made string
		comm string
		sig  unix.Signal
	}{
		"criu is killed":         {begun, "criu", unix.SIGKILL},
		"criu is killed, within": {within, "criu", unix.SIGKILL},
		"runc is killed":         {begun, "runc", unix.SIGKILL},
		"criu hangs":             {begun, "criu", unix.SIGSTOP},
		"criu hangs, within":     {within, "criu", unix.SIGSTOP},
		"runc hangs":             {begun, "runc", unix.SIGSTOP},
	} {
		for _, driver := range drivers() {
			t.Run(name+"/"+driver, func(t *testing.T) {
				r := newRig(t, driver)
				r.start(r.spec(1, counts+`done`))
				before := r.await("it counts", func(out string) bool { return strings.Count(out, "\n") > 10 })
				err := r.struck(filepath.Join(r.o.Dir, jobUUID, "*", c.made), c.comm, c.sig, func() error {
					ctx, stop := context.WithTimeoutCause(t.Context(), 3*time.Second, errors.New("the test's patience is over"))
					defer stop()
					_, err := r.k.Take(ctx, Order{Job: jobUUID, Name: "/test", Execution: 1, Incarnation: 1, Container: r.id(1), Group: r.group()})
					return err
				})
				if err == nil {
					t.Skip("SKIPPED, the dump had ended")
				}
				t.Log(err)
				if !errors.Is(err, ErrDump) {
					t.Errorf("got %v", err)
				}
				if r.taken(c.comm, c.sig) {
					t.Skip("SKIPPED, CRIU was killed when its own code was in the process, and took it along")
				}
				r.goesOn(before)
				r.next(r.spec(2, counts+`done`), false)
				r.await("it counts", func(out string) bool { return strings.Count(out, "\n") > 3 })
			})
		}
	}
}

// TestTakenBack has the copy of the layer fail when the container has ended: it is restored where it was.
func TestTakenBack(t *testing.T) {
	for _, driver := range drivers() {
		t.Run(driver, func(t *testing.T) {
			r := newRig(t, driver)
			r.start(r.spec(1, counts+`done`))
			before := r.await("it counts", func(out string) bool { return strings.Count(out, "\n") > 10 })
			r.k.hook = func(step string) {
				if step == "exited" {
					r.inTheWay()
				}
			}
			_, err := r.take(false)
			back, ok := errors.AsType[*BackError](err)
			if !ok || !errors.Is(err, ErrDump) || back.Overhead <= 0 || back.Overhead > time.Second {
				t.Fatalf("got %+v, %v", back, err)
			}
			t.Log(err)
			r.goesOn(before)
		})
	}
}

// inTheWay puts something where the layer of the checkpoint that is being taken would be copied to, and returns what it is.
func (r *rig) inTheWay() string {
	r.t.Helper()
	found, err := filepath.Glob(filepath.Join(r.o.Dir, jobUUID, "*.partial"))
	if err != nil || len(found) != 1 {
		r.t.Fatalf("%v, %v", found, err)
	}
	name := filepath.Join(found[0], layerName)
	if err := os.Mkdir(name, 0o700); err != nil {
		r.t.Fatal(err)
	}
	return name
}

// TestCompleted has the way back fail too: what there is of the job stays, and is completed when that is possible.
func TestCompleted(t *testing.T) {
	for _, driver := range drivers() {
		t.Run(driver, func(t *testing.T) {
			r := newRig(t, driver)
			r.start(r.spec(1, counts+`done`))
			r.await("it counts", func(out string) bool { return strings.Count(out, "\n") > 10 })
			var way, inventory, away string
			r.k.hook = func(step string) {
				if step != "exited" {
					return
				}
				way = r.inTheWay()
				inventory, away = filepath.Join(filepath.Dir(way), imagesName, "inventory.img"), filepath.Join(filepath.Dir(way), "away")
				if err := os.Rename(inventory, away); err != nil {
					t.Error(err)
				}
			}
			m, err := r.take(false)
			if !errors.Is(err, ErrStopped) || errors.Is(err, ErrDump) || m.Sequence != 1 {
				t.Fatalf("got %+v, %v", m, err)
			}
			t.Log(err)
			r.k.hook = nil
			if err := os.Rename(away, inventory); err != nil {
				t.Fatal(err)
			}
			if _, err := r.k.Complete(t.Context(), m.ref()); err == nil {
				t.Error("complete without its layer")
			}
			if err := os.Remove(way); err != nil {
				t.Fatal(err)
			}
			whole, err := r.k.Complete(t.Context(), m.ref())
			if err != nil || whole.CPU != m.CPU {
				t.Fatalf("got %+v, %v", whole, err)
			}
			last := number(t, last(strings.TrimSpace(r.output(1))))
			if _, err := r.k.Restore(t.Context(), m.ref(), r.spec(2, counts+`done`)); err != nil {
				t.Fatal(err)
			}
			r.n = 2
			out := r.await("it counts again", func(out string) bool { return strings.Count(out, "\n") > 3 })
			if first := number(t, strings.Split(out, "\n")[0]); first != last+1 {
				t.Errorf("it goes on with %d after %d", first, last)
			}
		})
	}
}

// taken says whether a CRIU that was killed has taken the process along whose registers it had changed for a moment: it has ended by a signal that
// nobody sent it.
func (r *rig) taken(comm string, sig unix.Signal) bool {
	r.t.Helper()
	i, err := r.o.Engine.Inspect(r.t.Context(), r.id(1))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Logf("after that: %s %+v", i.State, i.Exit)
	return comm == "criu" && sig == unix.SIGKILL && i.Exit != nil && slices.Contains([]int{4, 5, 7, 11}, i.Exit.Signal)
}

// TestRestoreStruck kills or stops CRIU in the middle of a restore, or spoils an image: the new container does not run, and the
// checkpoint is restored after that.
func TestRestoreStruck(t *testing.T) {
	for name, sig := range map[string]unix.Signal{"criu is killed": unix.SIGKILL, "criu hangs": unix.SIGSTOP, "an image is spoilt": 0} {
		for _, driver := range drivers() {
			t.Run(name+"/"+driver, func(t *testing.T) {
				r := newRig(t, driver)
				r.start(r.spec(1, counts+`done`))
				r.await("it counts", func(out string) bool { return strings.Count(out, "\n") > 10 })
				m, err := r.take(false)
				if err != nil && strings.Contains(err.Error(), "state D") { // it waits for a disk that others write to: the agent tries again too
					m, err = r.take(false)
				}
				if err != nil {
					t.Fatal(err)
				}
				spoilt := filepath.Join(r.k.store.path(m.ref().partial()), imagesName, "inventory.img")
				whole, err := os.ReadFile(spoilt)
				if err != nil {
					t.Fatal(err)
				}
				restore := func() error {
					ctx, stop := context.WithTimeoutCause(t.Context(), 4*time.Second, errors.New("the test's patience is over"))
					defer stop()
					_, err := r.k.Restore(ctx, m.ref(), r.spec(2, counts+`done`))
					return err
				}
				if sig == 0 {
					if err := os.WriteFile(spoilt, whole[:8], 0o600); err != nil {
						t.Fatal(err)
					}
					err = restore()
				} else {
					err = r.struck(filepath.Join(r.o.Dir, scratchDir, r.id(2), restoreLog), "criu", sig, restore)
				}
				if err == nil {
					t.Fatal("it is restored")
				}
				t.Log(err)
				r.quiet()
				if i, err := r.o.Engine.Inspect(t.Context(), r.id(2)); !errors.Is(err, container.ErrNotFound) {
					t.Errorf("the new container is %s, %v", i.State, err)
				}
				if err := os.WriteFile(spoilt, whole, 0o600); err != nil {
					t.Fatal(err)
				}
				if _, err := r.k.Restore(t.Context(), m.ref(), r.spec(2, counts+`done`)); err != nil {
					t.Fatal(err)
				}
				r.n = 2
				r.await("it counts again", func(out string) bool { return strings.Count(out, "\n") > 3 })
			})
		}
	}
}

// TestRestoreNamesTheFile takes a file that the job has open away, or changes it: the restore fails, and the error says so.
func TestRestoreNamesTheFile(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(file string) error
		want string
	}{
		"missing": {os.Remove, "is missing"},
		"changed": {func(file string) error {
			return os.WriteFile(file, []byte("longer than it was, or than it will ever be"), 0o600)
		}, "has changed since"},
	} {
		for _, driver := range drivers() {
			t.Run(name+"/"+driver, func(t *testing.T) {
				r := newRig(t, driver)
				command := `echo 1 >/data/mine; exec 3</data/mine; ` + counts + `done`
				r.start(r.spec(1, command))
				r.await("it counts", func(out string) bool { return strings.Count(out, "\n") > 10 })
				m, err := r.take(false)
				if err != nil {
					t.Fatal(err)
				}
				r.k.hook = func(step string) {
					if step != "unpacked" {
						return
					}
					i, err := r.k.inspect(t.Context(), r.id(2))
					if err == nil {
						err = c.do(filepath.Join(upperDir(i), "data", "mine"))
					}
					if err != nil {
						t.Error(err)
					}
				}
				_, err = r.k.Restore(t.Context(), m.ref(), r.spec(2, command))
				if err == nil || !errors.Is(err, ErrRestore) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want one that says %q", err, c.want)
				}
				t.Log(err)
				r.quiet()
				r.k.hook = nil
				if _, err := r.k.Back(t.Context(), m.ref()); err != nil {
					t.Errorf("the way back: %v", err)
				}
				r.await("it counts on", func(out string) bool { return strings.Count(out, "\n") > 20 })
			})
		}
	}
}
