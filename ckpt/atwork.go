package ckpt

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// atWork lists the processes that do an operation (checkpoint, restore) on a container for Docker, of which we know no pid: runc, which has the
// operation and the container among its arguments, all that it has started, and whoever has a file open below dir, as a CRIU whose
// parent was killed.
func atWork(proc, dockerID, operation, dir string) []int {
	list, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "cmdline"))
	if err != nil {
		return nil
	}
	var found []int
	children := map[int][]int{}
	for _, f := range list {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil || pid == os.Getpid() {
			continue
		}
		text, _ := os.ReadFile(f) // ended just now: empty
		if argv := strings.Split(string(text), "\x00"); slices.Contains(argv, dockerID) && slices.Contains(argv, operation) {
			found = append(found, pid)
		}
		parent := parentOf(proc, pid)
		children[parent] = append(children[parent], pid)
	}
	found = append(found, openedBelow(proc, dir)...)
	for i := 0; i < len(found); i++ { // it grows
		for _, c := range children[found[i]] {
			if !slices.Contains(found, c) {
				found = append(found, c)
			}
		}
	}
	return found
}

// parentOf is a process' parent; 0: it has ended.
func parentOf(proc string, pid int) int {
	b, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ") // the name before it may have blanks
	f := strings.Fields(rest)
	if len(f) < 2 || f[0] == "Z" { // a dead one does nothing more
		return 0
	}
	parent, err := strconv.Atoi(f[1])
	if err != nil {
		return 0
	}
	return parent
}

// endWork kills runc and CRIU at work on a container until there is none.
func (b base) endWork(ctx context.Context, dockerID, operation, dir string) {
	for {
		pids := atWork(b.proc, dockerID, operation, dir)
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL) // may have ended just now
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			return
		}
	}
}

// insist calls Docker for something that only ends when runc and CRIU do: when ctx ends, they are killed, and what Docker says then is waited for
// (a while), so that nobody is at work on the container any more.
func insist(ctx context.Context, end func(context.Context), call func(context.Context) error) error {
	own, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	var wait sync.WaitGroup
	wait.Go(func() { done <- call(own) })
	defer wait.Wait()
	defer stop()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	last, stopLast := context.WithTimeout(own, undoTime)
	defer stopLast()
	end(last)
	select {
	case err := <-done:
		if err == nil { // it was just done
			return nil
		}
	case <-last.Done(): // Docker hangs
	}
	return context.Cause(ctx)
}
