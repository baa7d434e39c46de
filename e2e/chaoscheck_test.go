package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"qosctl/agent/api"
	"qosctl/qos"
)

// isFree says whether nobody listens on an address, for TCP and UDP.
func isFree(address string) bool {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	return u.Close() == nil
}

// processes are those whose command line is accepted, by pid.
func processes(ok func(argv []string) bool) (pids []int) {
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil
	}
	for _, l := range lines {
		b, err := os.ReadFile(l)
		if err != nil || len(b) == 0 || !ok(strings.Split(string(bytes.TrimRight(b, "\x00")), "\x00")) {
			continue // it has ended just now
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(l))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// findAgent is the agent with a configuration; 0: none runs just now.
func findAgent(config string) int {
	pids := processes(func(argv []string) bool { return len(argv) > 1 && argv[1] == "agent" && slices.Contains(argv, config) })
	if len(pids) == 0 {
		return 0
	}
	return pids[0]
}

// running are the containers of a job: the shells whose script is its command.
func (c *chaos) running(k int) []int {
	return processes(func(argv []string) bool {
		return strings.HasSuffix(argv[0], "sh") && strings.HasPrefix(argv[len(argv)-1], ": "+c.marker(k)+";")
	})
}

// together says whether all nodes see each other, and are settled.
func (c *chaos) together() bool {
	for _, n := range c.nodes {
		ctx, stop := context.WithTimeout(c.t.Context(), 2*time.Second)
		l, err := n.api.Nodes(ctx)
		stop()
		if err != nil || !l.Settled || len(l.Nodes) != len(c.nodes) || slices.ContainsFunc(l.Nodes, func(p api.Peer) bool { return p.State != "alive" || p.PeerAPI == "" }) {
			return false
		}
	}
	return true
}

// told is what an agent's process has said of the account of a job that it owns.
type told struct {
	pid, index int
	consumed   float64
}

// watch asks all agents again and again for the jobs that they own: no account falls, and no execution comes before the one that was.
// What others say of a job may be older.
func (c *chaos) watch(ctx context.Context) {
	last := map[string]told{}
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, n := range c.nodes {
			pid := findAgent(n.config)
			within, stop := context.WithTimeout(ctx, time.Second)
			jobs, err := n.api.Jobs(within, true)
			stop()
			if err != nil || pid != findAgent(n.config) {
				continue // stopped, or killed
			}
			for _, j := range jobs {
				if j.Owner != n.name {
					continue
				}
				is, was := told{pid, j.Index, j.Consumed}, last[n.name+j.ID]
				if was.pid == pid && (is.index < was.index || is.index == was.index && is.consumed < was.consumed-1e-6) {
					c.say("FAULT: %s: %s: execution %d with %.3f CPU seconds after execution %d with %.3f", n.name, j.Name, is.index, is.consumed, was.index, was.consumed)
					c.t.Errorf("%s: %s: execution %d with %.3f CPU seconds after execution %d with %.3f", n.name, j.Name, is.index, is.consumed, was.index, was.consumed)
				}
				last[n.name+j.ID] = is
				c.mu.Lock()
				c.seen[run{j.ID, j.Index}] = max(c.seen[run{j.ID, j.Index}], j.Consumed)
				c.mu.Unlock()
			}
		}
	}
}

// run is an execution of a job.
type run struct {
	job   string
	index int
}

// lost says what is missing of what an owner has ever counted: no machine has died, so nothing may be; "": nothing.
func (c *chaos) lost(v api.Job) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range v.Runs {
		if was := c.seen[run{v.ID, r.Index}]; r.CPU < was-0.001 {
			return fmt.Sprintf("run %d of %s is booked with %.3f CPU seconds, %.3f were counted", r.Index, v.Name, r.CPU, was)
		}
	}
	return ""
}

// Times after which nothing may be left of the faults, and for how long that is looked at.
const (
	chaosSettles = 60 * time.Second
	chaosCalm    = 3 * time.Second
)

// settle waits until of each job that has not ended one container runs, and sees that it stays so.
func (c *chaos) settle() {
	c.until("one container of each job runs, and all nodes say where", chaosSettles, func() bool { return c.unsettled() == "" })
	for end := time.Now().Add(chaosCalm); time.Now().Before(end); {
		for k, j := range c.jobs {
			if pids := c.running(k); len(pids) > 1 {
				c.t.Errorf("%d containers of %s run: %v", len(pids), j.name, pids)
			}
		}
		c.pause(50 * time.Millisecond)
	}
}

// unsettled says what is not as it must be; "": nothing.
func (c *chaos) unsettled() string {
	for k, j := range c.jobs {
		var owner string
		var over bool
		for i, n := range c.nodes {
			v, err := n.api.Job(c.t.Context(), j.id)
			switch {
			case err != nil:
				return fmt.Sprintf("%s does not know %s: %v", n.name, j.name, err)
			case i == 0:
				owner, over = v.Owner, v.Phase.Terminal()
			case v.Owner != owner || v.Phase.Terminal() != over:
				return fmt.Sprintf("%s is %s on %s in the eyes of %s", j.name, v.Phase, v.Owner, n.name)
			}
		}
		n := len(c.running(k))
		between := j.executions > 0 // two of its executions
		if over && n > 0 || n > 1 || n == 0 && !over && !between {
			return fmt.Sprintf("%d containers of %s run, over: %t", n, j.name, over)
		}
	}
	return ""
}

// finish waits for the jobs that end, ends the others, and looks at their accounts.
func (c *chaos) finish() {
	for k, j := range c.jobs {
		if j.executions == 0 {
			if code, _, errs := c.qosctl("cancel", j.id); code != 0 {
				c.t.Errorf("cancel %s: exit %d: %s", j.name, code, errs)
			}
		}
		want := qos.PhaseCancelled
		if j.executions > 0 {
			want = qos.PhaseCompleted
		}
		c.until(fmt.Sprintf("%s is %s everywhere and nothing of it runs", j.name, want), 3*chaosSettles, func() bool {
			for _, n := range c.nodes {
				if v, err := n.api.Job(c.t.Context(), j.id); err != nil || v.Phase != want {
					return false
				}
			}
			return len(c.running(k)) == 0
		})
		var v api.Job
		c.until("all that was counted of "+j.name+" is booked", chaosSettles, func() bool { v = c.job(j.id); return c.lost(v) == "" })
		if v.Tally.Succeeded != j.executions {
			c.t.Errorf("%s: %d executions succeeded, want %d", j.name, v.Tally.Succeeded, j.executions)
		}
		if burnt, runs := c.burnt(k); v.Tally.CPU < burnt-0.1-startCPU*float64(runs) {
			c.t.Errorf("%s: its tally has %.2f CPU seconds, those %d of its runs that came to their end alone say %.2f", j.name, v.Tally.CPU, runs, burnt)
		}
	}
}

var shellTimes = regexp.MustCompile(`(\d+)m([0-9.]+)s`)

// startCPU is what a process has had, at most, when it enters its container's cgroup and becomes the job: that is the agent's, and the shell
// counts it as its own.
const startCPU = 0.06

// burnt is the CPU time that the runs of a job that came to their end say that they had, and how many these are. The shell writes its own and
// its children's, two lines.
func (c *chaos) burnt(k int) (seconds float64, runs int) {
	b, err := os.ReadFile(filepath.Join(c.out, fmt.Sprint("times", k)))
	if err != nil {
		return 0, 0 // none has
	}
	for _, m := range shellTimes.FindAllStringSubmatch(string(b), -1) {
		minutes, _ := strconv.ParseFloat(m[1], 64) // the pattern says that they are numbers
		part, _ := strconv.ParseFloat(m[2], 64)
		seconds += 60*minutes + part
	}
	return seconds, strings.Count(string(b), "\n") / 2
}
