package ckpt

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"
)

// A process that has called vfork(2) stands in the kernel, deaf to ptrace(2), until its child has called execve(2) or has ended. CRIU holds the
// child, so it would wait for the parent until its own timeout: the container would stand still for ten seconds, and have no checkpoint. Shells,
// posix_spawn(3), Python and Go start programs in this way. It takes them a millisecond or less, so another moment will do.
const (
	stillTries = 30
	stillPause = 20 * time.Millisecond // at most, between two tries
)

// still freezes the container in a moment when no process of it waits for a child made by vfork.
func (t *taking) still(ctx context.Context) error {
	for try := 1; ; try++ {
		if err := t.d.freeze(ctx, t.o.Container); err != nil {
			return err
		}
		pids, err := t.k.host.pids(t.s.group)
		if err != nil {
			pids = t.s.pids
		}
		pid := vforking(t.k.proc(), pids)
		if pid == 0 {
			return nil
		}
		if try == stillTries {
			return fmt.Errorf("process %d of container %s waits for a child made by vfork, which CRIU can't save (%d tries)", pid, t.o.Container, try)
		}
		if err := t.d.thaw(ctx, t.o.Container); err != nil {
			return err
		}
		if err := pause(ctx, rand.N(stillPause)); err != nil { // at random: what the job does may be periodic
			return context.Cause(ctx)
		}
	}
}

// vforking finds a process that stands in a system call by which children are made. 0: there is none, or the kernel does not tell.
func vforking(proc string, pids []int) int {
	for _, pid := range pids {
		calls, err := filepath.Glob(filepath.Join(proc, strconv.Itoa(pid), "task", "*", "syscall"))
		if err != nil {
			continue
		}
		for _, file := range calls {
			if b, err := os.ReadFile(file); err == nil && isVfork(runtime.GOARCH, b) {
				return pid
			}
		}
	}
	return 0
}

// Of clone(2)'s flags.
const cloneVfork = 0x4000

// isVfork reads /proc/PID/task/TID/syscall: "58 0x560d2e989166 0x7ffeca2c2b28 …", the number of the system call, its six arguments, the stack
// pointer and the program counter; "running", or "-1 …" outside of a call. Of clone3(2) the flags are in the process' memory: it waits
// for nothing else.
func isVfork(arch string, b []byte) bool {
	f := bytes.Fields(b)
	if len(f) != 9 {
		return false
	}
	clone, vfork := "56", "58"
	if arch != "amd64" { // the generic table, which has no vfork
		clone, vfork = "220", ""
	}
	switch string(f[0]) {
	case vfork, "435":
		return true
	case clone:
		flags, err := strconv.ParseUint(string(bytes.TrimPrefix(f[1], []byte("0x"))), 16, 64)
		return err == nil && flags&cloneVfork != 0
	default:
		return false
	}
}
