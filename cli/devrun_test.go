package cli

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// devRun is a dev of several nodes.
type devRun struct {
	dir, marathon string
	cmd           *exec.Cmd
	log           *safeBuffer
}

// start starts it; its end is waited for at the end of the test.
func (d *devRun) start(t *testing.T) {
	t.Helper()
	d.cmd.Stdout, d.cmd.Stderr, d.cmd.WaitDelay = d.log, d.log, time.Second
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = d.cmd.Wait() })
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill() // if it has not ended by itself
		wg.Wait()
		if t.Failed() {
			t.Log(d.log.String())
		}
	})
}

// killAgent kills the agent with a configuration.
func (d *devRun) killAgent(t *testing.T, config string) {
	t.Helper()
	for pid, line := range withArgs(t, d.dir) {
		if strings.Contains(line, " agent ") && strings.Contains(line, config) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no agent with %s", config)
}

// freePorts is an address of which that and the ports that follow it were free a moment ago.
func freePorts(t *testing.T, n int) string {
	t.Helper()
	for range 100 {
		first := freePort(t)
		ok := true
		for i := 1; i < n && ok; i++ {
			address, err := nextAddress(first, i)
			if err != nil {
				ok = false
				break
			}
			l, err := net.Listen("tcp", address)
			if ok = err == nil; ok {
				_ = l.Close() // it was opened to be closed
				_, taken := given.LoadOrStore(address, true)
				ok = !taken
			}
		}
		if ok {
			return first
		}
	}
	t.Fatal("no ports are free beside each other")
	return ""
}

// readPID reads a file with a PID; 0: not yet.
func readPID(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return pid
}

func itoa(n int) string { return strconv.Itoa(n) }
