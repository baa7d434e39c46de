package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// sleeper is a process that ends when it is killed. It is reaped at once, so that its end is one.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func pidfdOf(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if errors.Is(err, unix.ENOSYS) {
		t.Skip("SKIPPED, needs kernel 5.3 (pidfd_open)")
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// Whoever waits is told of its own process and of no other; when all have left, nothing is left open, and it begins anew.
func TestEndsOfManyProcesses(t *testing.T) {
	t.Parallel()
	w := new(ends)
	for round := range 2 {
		const n = 40 // more than are told at once
		procs, order := make([]*exec.Cmd, n), make(chan int, n)
		var waiters sync.WaitGroup
		for i := range procs {
			procs[i] = sleeper(t)
			fd := pidfdOf(t, procs[i])
			waiters.Go(func() {
				if err := w.await(t.Context(), fd); err != nil {
					t.Error(err)
				}
				order <- i
			})
		}
		kill := func(i int) {
			if err := procs[i].Process.Kill(); err != nil {
				t.Error(err)
			}
			_ = procs[i].Wait() // killed
		}
		for _, i := range []int{7, 0, n - 1} {
			kill(i)
			if got := <-order; got != i {
				t.Fatalf("round %d: the end of process %d is told, it was that of %d", round, got, i)
			}
		}
		for i := range procs {
			if i != 7 && i != 0 && i != n-1 {
				kill(i)
			}
		}
		waiters.Wait()
		w.mu.Lock()
		if w.poll != nil || len(w.waiting) != 0 {
			t.Errorf("round %d: %d are still waited for, or the epoll is open", round, len(w.waiting))
		}
		w.mu.Unlock()
	}
}

func TestEndsStopWaiting(t *testing.T) {
	t.Parallel()
	w, first, second := new(ends), sleeper(t), sleeper(t)
	ctx, cancel := context.WithCancel(t.Context())
	stopped, ended := make(chan error), make(chan error)
	a, b := pidfdOf(t, first), pidfdOf(t, second)
	go func() { stopped <- w.await(ctx, a) }()
	go func() { ended <- w.await(t.Context(), b) }()
	cancel()
	if err := <-stopped; !errors.Is(err, context.Canceled) {
		t.Errorf("who stops waiting: %v", err)
	}
	_ = first.Process.Kill()
	_ = first.Wait() // nobody is told
	_ = second.Process.Kill()
	_ = second.Wait()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Who waits without a goroutine is told once, of its own process; what it was told of is left open no longer, and after close nobody is told.
func TestEndsAreTold(t *testing.T) {
	t.Parallel()
	w, first, second := new(ends), sleeper(t), sleeper(t)
	told := make(chan int, 3)
	for i, cmd := range []*exec.Cmd{first, second} {
		if err := w.join(pidfdOf(t, cmd), waiter{ended: func() { told <- i }}); err != nil {
			t.Fatal(err)
		}
	}
	end := func(cmd *exec.Cmd) {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}
	end(second)
	if i := <-told; i != 1 {
		t.Errorf("the end of process %d is told, it was that of 1", i)
	}
	w.close() // waits for who told of the second
	if len(w.waiting) != 0 || w.poll != nil {
		t.Errorf("%d are still waited for, or the epoll is open", len(w.waiting))
	}
	end(first)
	if err := w.join(pidfdOf(t, ending(t)), waiter{ended: func() { told <- 2 }}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("waiting after close: %v", err)
	}
	if len(told) != 0 {
		t.Errorf("somebody is told twice, or after close: %d", <-told)
	}
}

// ending is a process that is killed at the test's end.
func ending(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := sleeper(t)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	return cmd
}
