package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qosctl/e2e/node"
	"qosctl/qos"
)

// marathon sends a request to the Marathon on the node.
func (s *site) marathon(method, path, body string) string {
	s.t.Helper()
	return s.request(method, "http://127.0.0.1:18080"+path, body)
}

// request asks something of a server on the node.
func (s *site) request(method, url, body string) string {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	client := http.Client{Transport: &http.Transport{DialContext: s.dial, DisableKeepAlives: true}, Timeout: 20 * time.Second}
	resp, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		s.t.Fatalf("%s %s: %s %s (%v)", method, url, resp.Status, b, err)
	}
	return string(b)
}

// dial connects from within the node's network.
func (s *site) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	runtime.LockOSThread() // and never unlocked: the thread dies with its goroutine, in whatever network it is
	ns, err := os.Open(s.n.Path("/proc/1/ns/net"))
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}

// sh runs a script on the node.
func (s *site) sh(script string) string {
	s.t.Helper()
	out, err := s.n.Run(s.t.Context(), "sh", "-c", script)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// exists says whether a pattern matches a file of the node.
func (s *site) exists(pattern string) bool {
	found, err := filepath.Glob(s.n.Path(pattern))
	return err == nil && len(found) > 0
}

// has says whether a file of the node that matches a pattern has a text in it.
func (s *site) has(pattern, text string) bool {
	found, err := filepath.Glob(s.n.Path(pattern))
	s.must(err)
	for _, f := range found {
		if b, rerr := os.ReadFile(f); rerr == nil && strings.Contains(string(b), text) { // it may be gone just now
			return true
		}
	}
	return false
}

func (s *site) checkpoints() string {
	found, err := filepath.Glob(s.n.Path("/var/lib/qosctl/checkpoints/dev-*"))
	if err != nil || len(found) != 1 {
		s.t.Fatalf("directory of checkpoints: %v, %v", found, err)
	}
	return strings.TrimPrefix(found[0], s.n.Path("/"))
}

// running waits until a job has counted some more.
func (s *site) running(id string) {
	s.t.Helper()
	from := s.lines(id)
	s.until("the job counts", 40*time.Second, func() bool { return s.lines(id) > from+10 })
}

// finished waits for a job's good end, and checks that its output has no gap and no repetition.
func (s *site) finished(id string, n int) {
	s.t.Helper()
	s.until("the job is done", 2*time.Minute, func() bool { return s.job(id).Phase.Terminal() })
	if j := s.job(id); j.Phase != qos.PhaseCompleted || j.Tally.Failed != 0 {
		s.t.Errorf("at the end: %+v\n%s", j, s.qosctl("explain", id))
	}
	if got := s.lines(id); got != n {
		s.t.Errorf("%d lines, want %d", got, n)
	}
	s.tidy(id)
}

// tidy waits until nothing is left of a job that is done: no running container (its last one is kept for its output), no checkpoint,
// whole or half written, nothing of containerd's in /tmp, and no CRIU at work.
func (s *site) tidy(id string) {
	s.t.Helper()
	script := fmt.Sprintf(`docker ps --quiet --filter label=qosctl.job=%[1]s
find %[2]s/%[1]s 2>/dev/null; ls -d /tmp/ctrd-checkpoint* 2>/dev/null; pgrep -a -x criu; true`, id, s.checkpoints())
	left := ""
	s.until("nothing is left of the job", time.Minute, func() bool {
		was := left
		if left = s.sh(script); left != "" && left != was {
			s.t.Logf("still there: %q", left)
		}
		return left == ""
	})
}

// stopLater has a job stopped with its state saved; what becomes of the request itself is not looked at: its agent may be killed.
func (s *site) stopLater(id string) (done chan struct{}) {
	done = make(chan struct{})
	cmd := s.n.Command(s.t.Context(), "/usr/bin/qosctl", "--agent", siteDir+"/run/qosctl.sock", "checkpoint", id, "--stop")
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		defer close(done)
		_ = cmd.Wait() // see above
	}()
	return done
}

// kill kills the process of the node whose command line begins so.
func (s *site) kill(command string) {
	s.t.Helper()
	s.must(unix.Kill(s.find(command), unix.SIGKILL))
}

// find is the process of the node whose command line begins so, as this machine numbers it.
func (s *site) find(command string) int {
	s.t.Helper()
	pid, err := s.n.Find(command)
	s.must(err)
	return pid
}

// stopped has a job stopped with its state saved, and does something at a moment of that. Some moments are short: one that passed unseen is
// waited for in the job's next stop.
func (s *site) stopped(id string, when func() bool, do func()) {
	s.t.Helper()
	for range 5 {
		request := s.stopLater(id)
		if s.seen(request, when) {
			do()
			<-request
			return
		}
		s.t.Log("the moment passed unseen")
		s.running(id)
	}
	s.t.Fatal("the moment passed unseen each time")
}

// seen looks for a moment until a request is done and some time has passed; it says whether it came.
func (s *site) seen(request chan struct{}, when func() bool) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(30 * time.Second)
	defer late.Stop()
	for !when() {
		select {
		case <-tick.C:
			continue
		case <-late.C:
			return false
		case <-request: // what follows it is a restore, perhaps
			request = nil
			late.Reset(20 * time.Second)
		}
	}
	return true
}

// TestKilled kills the agent, dockerd and criu in the middle of a checkpoint and of a restore. Whatever was killed: the job ends well,
// and its output counts without a gap or a repetition.
func TestKilled(t *testing.T) {
	for _, release := range []string{node.Trixie, node.Forky} {
		t.Run(release, func(t *testing.T) {
			s := startSite(t, release)
			below := func(id, pattern string) string { return s.checkpoints() + "/" + id + "/" + pattern }
			restored := func(file string) func(id string) func() bool {
				return func(id string) func() bool { // by any incarnation but the first
					pattern := s.checkpoints() + "/.work/" + id + "-1-*/" + file
					return func() bool { return s.exists(pattern) }
				}
			}
			dumping := func(id string) func() bool {
				pattern := below(id, "*.partial/images/*.img")
				return func() bool { return s.exists(pattern) }
			}
			agent := func() { s.kill("/usr/bin/qosctl agent") }
			for _, c := range []struct {
				name string
				when func(id string) func() bool
				do   func()
			}{
				{"agent, before a dump", func(id string) func() bool {
					pattern := below(id, "*.partial/plan.json")
					return func() bool { return s.exists(pattern) }
				}, agent},
				{"agent, in a dump", dumping, agent},
				{"agent, after a dump", func(id string) func() bool {
					pattern := below(id, "*.partial/plan.json")
					return func() bool { return s.has(pattern, `"state": "dumped"`) }
				}, agent},
				{"agent, in a restore", restored("restore.json"), agent},
				{"agent, after a restore", restored("zero"), agent},
				{"dockerd, in a dump", dumping, func() { s.must(s.n.KillDocker(t.Context(), false)) }},
				{"dockerd, in a restore", restored("restore.json"), func() { s.must(s.n.KillDocker(t.Context(), false)) }},
				{"runc, in a dump", dumping, func() { s.sh(`p=$(pgrep -o -f 'runc .*checkpoint') && kill -9 $p; true`) }},
				{"criu, in a restore", restored("restore.json"), func() {
					s.sh(`for i in 1 2 3 4 5 6 7 8 9 10; do p=$(pgrep -o -x criu) && kill -9 $p && break; sleep 0.02; done; true`)
				}},
			} {
				t.Run(c.name, func(t *testing.T) {
					outer := s.t
					s.t = t
					defer func() { s.t = outer }()
					const n = 400
					s.ready()
					id := s.submit(dockerApp("/"+strings.NewReplacer(", ", "-", " a ", "-").Replace(c.name), counting(n)))
					s.running(id)
					s.stopped(id, c.when(id), c.do)
					s.finished(id, n)
				})
			}
		})
	}
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// TestDamagedCheckpoint flips a bit in the newest checkpoint of a suspended job, then in all of them: it goes on from an older one, then
// begins anew, and says so.
func TestDamagedCheckpoint(t *testing.T) {
	s := startSite(t, node.Forky)
	const n = 2000
	id := s.submit(dockerApp("/damaged", counting(n)))
	s.running(id)
	s.qosctl("checkpoint", id, "--reason", "the older one")
	s.running(id)
	suspend := func() {
		s.marathon(http.MethodPatch, "/v2/apps/damaged", `{"instances":0}`)
		s.until("suspended and sealed", 30*time.Second, func() bool {
			return s.job(id).Phase == qos.PhaseSuspended && !strings.Contains(s.qosctl("checkpoints", id), "not sealed")
		})
	}
	damage := func(which string) {
		s.sh(fmt.Sprintf(`for f in %s/%s/%s/images/pages-1.img; do printf X | dd of=$f bs=1 seek=100 conv=notrunc 2>/dev/null; done`, s.checkpoints(), id, which))
	}
	resume := func() { s.marathon(http.MethodPatch, "/v2/apps/damaged", `{"instances":1}`) }

	suspend()
	damage("2")
	resume()
	s.until("it goes on from the older one", 40*time.Second, func() bool { j := s.job(id); return j.Phase == qos.PhaseRunning && j.Allocation > 0 })
	explained := s.qosctl("explain", id)
	if !strings.Contains(explained, "from checkpoint 1 in") || !strings.Contains(explained, "is not what was written") {
		t.Errorf("not explained:\n%s", explained)
	}
	before := s.job(id)
	s.running2(id)
	suspend()
	damage("*")
	resume()
	s.until("it begins anew", 40*time.Second, func() bool { j := s.job(id); return j.Phase == qos.PhaseRunning && j.Allocation > 0 })
	if explained := s.qosctl("explain", id); !strings.Contains(explained, "STARTED ANEW") {
		t.Errorf("not explained:\n%s", explained)
	}
	after := s.job(id)
	if after.Consumed < before.Consumed || after.Progress > before.Progress {
		t.Errorf("account: consumed %g, then %g; progress %g, then %g", before.Consumed, after.Consumed, before.Progress, after.Progress)
	}
	s.qosctl("cancel", id)
	s.until("cancelled", 30*time.Second, func() bool { return s.job(id).Phase == qos.PhaseCancelled })
}

// running2 waits until a job whose output repeats, as after a lost checkpoint, has had some more CPU time.
func (s *site) running2(id string) {
	s.t.Helper()
	from := s.job(id).Consumed
	s.until("the job goes on", 30*time.Second, func() bool { return s.job(id).Consumed > from+0.2 })
}

// TestFullDisk has no room for a checkpoint: the job runs on, and the error says why.
func TestFullDisk(t *testing.T) {
	s := startSite(t, node.Forky, "--set", "checkpoint.max_mb=1")
	const n = 300
	id := s.submit(dockerApp("/full", counting(n)))
	s.running(id)
	out, err := s.n.Run(t.Context(), "/usr/bin/qosctl", "--agent", siteDir+"/run/qosctl.sock", "checkpoint", id)
	if err == nil || !strings.Contains(out, "no space for the checkpoint") {
		t.Errorf("got %q, %v", out, err)
	}
	s.finished(id, n)
}

// TestReschedule is the thesis' case III in small: a job with too much CPU gets less, one with too little more, each time through Marathon,
// which ends the task and starts it again.
func TestReschedule(t *testing.T) {
	s := startSite(t, node.Forky, "--policy", "step", "--set", "control.resize=reschedule", "--set", "control.increment=0.4", "--set", "control.decrement=0.3", "--set", "control.step_period=6s")
	const n = 2500
	// It rests in the middle, and falls behind its plan. It looks at the clock: a sleep that is checkpointed ends early (EINTR).
	const rest = `if [ $i = 600 ]; then e=$(($(date +%s)+25)); while [ $(date +%s) -lt $e ]; do sleep 1; done; fi`
	file := dockerApp("/case3", strings.Replace(counting(n), "echo $i;", "echo $i; "+rest+";", 1))
	file["cpus"] = 0.6
	file["qos"] = map[string]any{"duration": 25, "deadline": 100, "desv_deadline": 0.1, "executions": 1, "min_cpus": 0.3, "max_cpus": 1}
	id := s.submit(file)
	s.until("the job is done", 3*time.Minute, func() bool { return s.job(id).Phase.Terminal() })
	j, explained := s.job(id), s.qosctl("explain", id)
	if j.Phase != qos.PhaseCompleted || j.Outcome != qos.Met {
		t.Errorf("at the end: %+v\n%s", j, explained)
	}
	if got := s.lines(id); got != n {
		t.Errorf("%d lines, want %d", got, n)
	}
	over, under := strings.Contains(explained, "(step-over)"), strings.Contains(explained, "(step-under)")
	if !over || !under || strings.Count(explained, "through marathon") < 2 || !strings.Contains(explained, "done: task") || len(j.Account.Entries) < 3 {
		t.Errorf("not lowered and raised through Marathon:\n%s", explained)
	}
	b, err := json.Marshal(j.Account)
	t.Logf("account %s (%v)", b, err)
}

// TestMoveTakenBack has a job ask for more CPUs through Marathon than any offer has: its task ends, no new one comes, and the old request
// brings it back, from where it was.
func TestMoveTakenBack(t *testing.T) {
	s := startSite(t, node.Forky, "--set", "control.resize=reschedule", "--set", "control.move_timeout=6s")
	s.request(http.MethodPost, "http://127.0.0.1:15051/dev/hold?cpus=1.3", "")
	file := dockerApp("/back", counting(100000))
	file["qos"] = map[string]any{"duration": 60, "deadline": 80, "desv_deadline": 0.1, "executions": 1}
	id := s.submit(file)
	s.until("it is taken back", 90*time.Second, func() bool { return strings.Contains(s.qosctl("explain", id), "taken back: 0.50 CPUs again") })
	s.until("it goes on", 30*time.Second, func() bool { j := s.job(id); return j.Phase == qos.PhaseRunning && j.Allocation > 0 })
	s.running(id)
	if j := s.job(id); j.Request != 0.5 || j.Tally.Failed != 0 || len(j.Account.Entries) != 2 {
		t.Errorf("after it: %+v\n%s", j, s.qosctl("explain", id))
	}
	if m := s.request(http.MethodGet, "http://127.0.0.1:30000/metrics", ""); !strings.Contains(m, "\nqosctl_moves_undone_total 1\n") {
		t.Error("qosctl_moves_undone_total is not 1")
	}
	s.qosctl("cancel", id)
	s.until("cancelled", 30*time.Second, func() bool { return s.job(id).Phase.Terminal() })
}
