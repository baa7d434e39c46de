package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"qosctl/agent/api"
)

// chaosVar says how many seeds TestChaos runs, chaosSeedVar from which on: `make chaos SEEDS=100 SEED=1`.
const (
	chaosVar     = "QOSCTL_CHAOS"
	chaosSeedVar = "QOSCTL_SEED"
	chaosNodes   = 4
)

// TestChaos does to agents that are real processes what TestJepsen does to simulated ones, as far as one machine can: they are killed,
// stopped and let go on, and cut off from their Mesos master, at times that come from the seed. When all is healed each job has one
// container at most, in everybody's eyes the same one, none was lost, no account ever fell, and each job comes to its end. What follows
// upon what is not the seed's alone to say: a run is like another one of the same seed, not the same.
func TestChaos(t *testing.T) {
	if !wanted() {
		t.Skip("end-to-end tests run as root with QOSCTL_E2E=1: make e2e, make chaos")
	}
	first := envNumber(t, chaosSeedVar, 1)
	for i := range envNumber(t, chaosVar, 2) {
		t.Run(fmt.Sprint("seed ", first+i), func(t *testing.T) {
			t.Parallel()
			newChaos(t, uint64(first+i)).run()
		})
	}
}

func envNumber(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		t.Fatalf("%s: want a number (got %q)", name, text)
	}
	return n
}

// chaos is a run: a `qosctl dev` of several nodes, its jobs, and what is done to it.
type chaos struct {
	*cluster
	rng   *rand.Rand
	seed  uint64
	out   string // directory that the jobs write to
	nodes []*chaosNode
	jobs  []*chaosJob
	began time.Time

	mu     sync.Mutex
	events []string
	seen   map[run]float64 // the most CPU seconds that an owner has told
}

// chaosNode is a node as it is meddled with.
type chaosNode struct {
	name    string
	config  string // file, which tells its agent's process from others
	api     *api.Client
	stopped bool
	cut     bool
}

// chaosJob is a job that was handed in.
type chaosJob struct {
	id, name   string
	executions int // 0: it never ends by itself
}

func newChaos(t *testing.T, seed uint64) *chaos {
	t.Helper()
	c := &chaos{rng: rand.New(rand.NewPCG(seed, 13)), seed: seed, out: t.TempDir(), began: time.Now(), seen: map[run]float64{}}
	c.cluster = start(t, "--nodes", strconv.Itoa(chaosNodes), "--cpus", "0.4", "--policy", "none", "--deploy", "0s", "--listen", freeRange(t), "--mesos", freeRange(t),
		"--mesos-master", freeAddr(t), "--gossip", freeRange(t), "--peer", freeRange(t), "--set", "cluster.grace=3s", "--set", "run.detach_grace=10s")
	for i := range chaosNodes {
		dir := c.dir
		if i > 0 {
			dir = filepath.Join(c.dir, fmt.Sprint("node", i+1))
		}
		n := &chaosNode{name: fmt.Sprint("node", i+1), config: filepath.Join(dir, "agent.yaml")}
		var err error
		if n.api, err = api.New(api.Options{Address: filepath.Join(dir, "run", "qosctl.sock")}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.api.Close)
		c.nodes = append(c.nodes, n)
	}
	t.Cleanup(func() { // before dev is ended
		for _, n := range c.nodes {
			c.signal(n, syscall.SIGCONT)
		}
		if t.Failed() {
			c.mu.Lock()
			defer c.mu.Unlock()
			t.Logf("what was done:\n%s\nagain: make chaos SEEDS=1 SEED=%d", strings.Join(c.events, "\n"), seed)
		}
	})
	return c
}

// given are the ports that freeRange and freeAddr have handed out.
var given sync.Map

// freeRange is an address of which that and the ports that follow it are free, one for each node. They lie below those that the kernel gives
// to connections, and to freeAddr.
func freeRange(t *testing.T) string {
	t.Helper()
	for range 1000 {
		first := 20000 + chaosNodes*rand.IntN(12000/chaosNodes)
		if _, taken := given.LoadOrStore(first, true); taken {
			continue
		}
		free := true
		for i := 0; i < chaosNodes && free; i++ {
			free = isFree(fmt.Sprint("127.0.0.1:", first+i))
		}
		if free {
			return fmt.Sprint("127.0.0.1:", first)
		}
	}
	t.Fatal("no ports are free beside each other")
	return ""
}

func (c *chaos) say(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, fmt.Sprintf("%7.3f ", time.Since(c.began).Seconds())+fmt.Sprintf(format, args...))
}

// run is the whole of it.
func (c *chaos) run() {
	c.until("all nodes see each other", 60*time.Second, c.together)
	c.handIn()
	watching, stop := context.WithCancel(c.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { c.watch(watching) })
	c.trouble()
	c.heal()
	c.until("all nodes see each other again", 60*time.Second, c.together)
	c.settle()
	c.finish()
	stop()
	wg.Wait()
	log, err := os.ReadFile(c.log.Name())
	if err != nil {
		c.t.Error(err)
	}
	c.t.Logf("%d lost tasks were expunged, %d jobs claimed by another node", bytes.Count(log, []byte("expunge a lost task")), bytes.Count(log, []byte("job claimed by another node")))
}

// handIn submits jobs of several executions, and some that never end.
func (c *chaos) handIn() {
	for k := range 5 {
		j := &chaosJob{id: fmt.Sprintf("%08x-0000-4000-8000-%012x", c.seed, k), name: fmt.Sprintf("/chaos-%d-%d", c.seed, k)}
		work := "while :; do :; done"
		if k < 3 {
			j.executions = 2
			work = fmt.Sprintf("i=0; while [ $i -lt %d ]; do i=$((i+1)); done; times >>%s/times%d; echo >>%[2]s/done%[3]d", 100_000+c.rng.IntN(200_000), c.out, k)
		}
		file := map[string]any{
			"id": j.name, "cmd": fmt.Sprintf(": %s; %s", c.marker(k), work), "cpus": 0.1, "mem": 32,
			"qos": map[string]any{"duration": 1, "desv_deadline": 0.5, "deadline": 3600, "executions": max(1, j.executions)},
		}
		if code, _, errs := c.qosctl("submit", "--id", j.id, write(c.t, file)); code != 0 {
			c.t.Fatalf("submit: exit %d: %s", code, errs)
		}
		c.jobs = append(c.jobs, j)
	}
}

// marker stands in the command of a job's containers, and in nobody else's.
func (c *chaos) marker(k int) string { return fmt.Sprintf("chaos_%d_%d_%d", os.Getpid(), c.seed, k) }

// Times of a run's trouble. devmesos gives a node up after 15 s of silence, and who takes over waits until its peers are as many as they seem.
const (
	awayFor = 27 * time.Second
	quiet   = 6 * time.Second
)

// trouble meddles for a while. One node is away for all of it, so that Mesos gives its tasks up; the others' agents come and go, but for the
// last of it, when there is time to take over.
func (c *chaos) trouble() {
	away := c.nodes[c.rng.IntN(len(c.nodes))]
	others := slices.DeleteFunc(slices.Clone(c.nodes), func(n *chaosNode) bool { return n == away })
	c.pause(time.Duration(c.rng.IntN(3000)) * time.Millisecond)
	c.cut(away, true)
	c.signal(away, syscall.SIGSTOP)
	end := time.Now().Add(awayFor)
	for time.Now().Before(end.Add(-quiet)) {
		c.mischief(others[c.rng.IntN(len(others))], others)
		c.pause(time.Duration(100+c.rng.IntN(1900)) * time.Millisecond)
	}
	for _, n := range others {
		if n.stopped && c.rng.IntN(2) == 0 {
			c.signal(n, syscall.SIGCONT)
		}
	}
	c.pause(time.Until(end))
}

// mischief does one thing to a node's agent. One at most of those is stopped at a time, so that half of all are there.
func (c *chaos) mischief(n *chaosNode, all []*chaosNode) {
	stopped := slices.ContainsFunc(all, func(n *chaosNode) bool { return n.stopped })
	switch k := c.rng.IntN(8); {
	case k < 5 && n.stopped:
		c.signal(n, syscall.SIGCONT)
	case k < 4 && !stopped:
		c.signal(n, syscall.SIGSTOP)
	case k == 7:
		c.cut(n, !n.cut)
	default:
		c.signal(n, syscall.SIGKILL)
	}
}

func (c *chaos) heal() {
	for _, n := range c.nodes {
		c.signal(n, syscall.SIGCONT)
		c.cut(n, false)
	}
	c.say("healed")
}

// signal sends a signal to a node's agent, if one runs just now.
func (c *chaos) signal(n *chaosNode, s syscall.Signal) {
	pid := findAgent(n.config)
	c.say("%s: %v to process %d", n.name, s, pid)
	if pid > 0 {
		_ = syscall.Kill(pid, s) // it may have ended just now
	}
	n.stopped = s == syscall.SIGSTOP && pid > 0
}

// cut parts a node from its master, or lets it be heard again.
func (c *chaos) cut(n *chaosNode, off bool) {
	if n.cut == off {
		return
	}
	verb := map[bool]string{true: "cut", false: "heal"}[off]
	c.say("%s: %s", n.name, verb)
	call(c.t, "POST", "http://"+c.marathon+"/dev/nodes/"+n.name+"/"+verb, "")
	n.cut = off
}

// pause is real time: there is nothing that could be waited for.
func (c *chaos) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-c.t.Context().Done():
	}
}
