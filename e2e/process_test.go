package e2e

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"qosctl/cgroup"
	"qosctl/qos"
)

// agent finds the cluster's agent process and returns what kills it with SIGKILL.
func (c *cluster) agent() (kill func()) {
	c.t.Helper()
	pid := c.agentPID()
	return func() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			c.t.Fatal(err)
		}
	}
}

// agentPID is the child of `qosctl dev` whose command is agent.
func (c *cluster) agentPID() int {
	c.t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		c.t.Fatal(err)
	}
	for _, l := range lines {
		b, err := os.ReadFile(l)
		argv := strings.Split(string(bytes.TrimRight(b, "\x00")), "\x00")
		if err != nil || len(argv) < 2 || argv[1] != "agent" || !strings.Contains(string(b), c.dir) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(l)))
		if err != nil {
			c.t.Fatal(err)
		}
		return pid
	}
	c.t.Fatal("no agent process")
	return 0
}

// TestAgentStoppedForGood ends agent and supervisor at once, while a job lends CPUs: it gets its request back within 60 s.
func TestAgentStoppedForGood(t *testing.T) {
	c := start(t)
	file := marathonJob("/lender")
	file["cmd"] = "while :; do :; done"
	file["cpus"] = 0.5
	id := c.submit(write(t, file))
	c.until("running", 20*time.Second, func() bool { return c.job(id).Progress > 0.1 })
	groups, err := cgroup.New(cgroup.Options{})
	if err != nil {
		t.Fatal(err)
	}
	j := c.job(id)
	path := j.Account.Entries[j.Account.Live].Cgroup
	limits, err := groups.OpenLimits(cgroup.Group{CPU: path, CPUAcct: path})
	if err != nil {
		t.Fatal(err)
	}
	defer limits.Close()
	// The supervisor is stopped, so that it can't start the agent again; then the loan is written as the agent would.
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.cmd.Process.Signal(syscall.SIGCONT) }() // so that it can clean up
	c.agent()()
	if _, err := limits.SetCPUs(0.1); err != nil {
		t.Fatal(err)
	}
	c.until("given back its request", 60*time.Second, func() bool {
		in, err := limits.CPUs()
		return err == nil && in >= 0.499
	})
	if err := c.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	c.until("held by the next agent", 20*time.Second, func() bool {
		j, err := c.api.Job(t.Context(), id)
		return err == nil && j.Phase == qos.PhaseRunning && j.Epoch == 1
	})
}

// call sends one request that must succeed.
func call(t *testing.T, method, url, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s", method, url, resp.Status)
	}
}
