package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/gossip"
	"qosctl/qos"
)

// trio is a cluster of real agents on loopback: real gossip, real TLS, real processes in cgroups; one framework in memory for all.
type trio struct {
	t     *testing.T
	nodes []*node
	port  *fakePort
}

// given are ports that freeAddress has handed out.
var given sync.Map

// freeAddress is one that nobody listens on, for TCP and UDP, below the ports that the kernel gives to connections.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		if _, taken := given.LoadOrStore(addr, true); taken {
			continue
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		u, uerr := net.ListenPacket("udp", addr)
		if uerr == nil {
			uerr = u.Close()
		}
		if err := l.Close(); err == nil && uerr == nil {
			return addr
		}
	}
	t.Fatal("no free address")
	return ""
}

// startCluster starts n agents that know each other. set furnishes each node.
func startCluster(t *testing.T, n int, set func(i int, n *node)) *trio {
	t.Helper()
	key := filepath.Join(t.TempDir(), "cluster.key")
	if err := os.WriteFile(key, []byte(gossip.NewKey()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &trio{t: t, port: newFakePort()}
	var seeds []string
	for range n {
		seeds = append(seeds, freeAddress(t))
	}
	for i := range n {
		c.nodes = append(c.nodes, startNode(t, func(cfg *Config) {
			cfg.Node = fmt.Sprintf("n%d", i)
			cfg.Cluster.KeyFile, cfg.Cluster.Bind, cfg.Cluster.Peer, cfg.Cluster.Join = key, seeds[i], freeAddress(t), seeds
			cfg.Cluster.Grace = time.Second
			cfg.Checkpoint.Replicas = 0
		}, func(n *node) {
			n.port = c.port
			if set != nil {
				set(i, n)
			}
		}))
	}
	c.until("all know each other", func() bool {
		return !slices.ContainsFunc(c.nodes, func(x *node) bool {
			l := x.agent.nodes(time.Now())
			return !l.Settled || len(l.Nodes) != n || slices.ContainsFunc(l.Nodes, func(p api.Peer) bool { return p.State != "alive" || p.PeerAPI == "" })
		})
	})
	return c
}

// until polls for what must come to be.
func (c *trio) until(what string, ok func() bool) {
	c.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: it did not come to be", what)
		}
		<-tick.C
	}
}

// row is what a node's table says of a job.
func (n *node) shared(id string) (qos.Status, bool) {
	r, ok := n.agent.cluster.mesh.Get(id)
	return r.Status, ok
}

// claimAt claims as a stand-in does: again, while the agent asks for that.
func (c *trio) claimAt(n *node, id, task string) (*api.Standin, api.ClaimResponse) {
	c.t.Helper()
	s := n.standin(id)
	ctx, cancel := context.WithTimeout(c.t.Context(), 60*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		r, err := s.Claim(ctx, api.Claim{Task: task, Env: []string{"PATH=" + os.Getenv("PATH")}})
		if err == nil {
			return s, r
		}
		e, ok := errors.AsType[*api.StatusError](err)
		if !ok || e.Body.Code != codeConflict {
			c.t.Fatalf("claim at %s: %v (before: %v)", n.cfg.Node, err, last)
		}
		last = err
		<-tick.C
	}
}

const countsTo400 = `{"id":"/a","cmd":"i=0; while [ $i -lt 400 ]; do i=$((i+1)); done; echo done","cpus":0.5,"mem":32,"qos":{"duration":5,"desv_deadline":0.1,"deadline":60,"executions":1}}`

func TestAJobThatIsSubmittedAtOneNodeIsClaimedAtAnother(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	a, b := c.nodes[0], c.nodes[1]
	a.submit(idA, countsTo400)
	c.until("all know the job", func() bool {
		return !slices.ContainsFunc(c.nodes, func(n *node) bool {
			s, ok := n.shared(idA)
			return !ok || s.Owner != "n0" || s.Phase != qos.PhasePending
		})
	})
	s, resp := c.claimAt(b, idA, "t1")
	if resp.Verdict != verdictRun || resp.Node != "n1" {
		t.Fatalf("claim: %+v", resp)
	}
	c.until("the former owner has let go", func() bool { return a.agent.jobs.get(idA) == nil })
	if out, _, code := b.read(s, "t1"); code != 0 || out != "done\n" {
		t.Errorf("output %q, code %d", out, code)
	}
	// any agent answers: from the owner, while it is there
	for _, n := range c.nodes {
		v, err := n.client().Job(t.Context(), idA)
		if err != nil || v.Phase != qos.PhaseCompleted || v.Owner != "n1" || len(v.Runs) != 1 {
			t.Errorf("%s: %+v, %v", n.cfg.Node, v, err)
		}
		list, err := n.client().Jobs(t.Context(), true)
		if err != nil || len(list) != 1 || list[0].Owner != "n1" {
			t.Errorf("%s lists %+v, %v", n.cfg.Node, list, err)
		}
	}
	c.until("all know that it is completed", func() bool {
		return !slices.ContainsFunc(c.nodes, func(n *node) bool { s, _ := n.shared(idA); return s.Phase != qos.PhaseCompleted })
	})
}

func TestASecondTaskElsewhereWaitsUntilTheFirstNodeHasPutTheJobAside(t *testing.T) {
	t.Parallel()
	keepers := [2]*fakeKeeper{{}, {}}
	c := startCluster(t, 2, func(i int, n *node) { n.keeper = keepers[i] })
	a, b := c.nodes[0], c.nodes[1]
	a.submit(idA, dockerJob("while :; do :; done"))
	_, _ = c.claimAt(a, idA, "t1")
	a.await(idA, "running", func(v api.Job) bool { return v.Phase == qos.PhaseRunning && v.Container != "" && v.Consumed > 0 })
	had := keepers[0]
	_, resp := c.claimAt(b, idA, "t2")
	if resp.Verdict != verdictRun {
		t.Fatalf("claim: %+v", resp)
	}
	had.mu.Lock()
	taken := had.taken
	had.mu.Unlock()
	if taken != 1 {
		t.Errorf("the first node took %d checkpoints", taken)
	}
	c.until("one node has the job", func() bool { return a.agent.jobs.get(idA) == nil && b.agent.jobs.get(idA) != nil })
	v := b.await(idA, "running", inPhase(qos.PhaseRunning))
	if v.Owner != "n1" || v.Account == nil || len(v.Account.Entries) != 2 || v.Account.Live.Node != "n1" {
		t.Errorf("%+v, account %+v", v, v.Account)
	}
	c.until("it goes on from the other node's checkpoint", func() bool {
		keepers[1].mu.Lock()
		defer keepers[1].mu.Unlock()
		return len(keepers[1].restored) == 1
	})
	b.await(idA, "embodying the other node's work", func(v api.Job) bool { return v.Account.Entries[v.Account.Live].Base > 0 })
	if _, err := a.client().Cancel(t.Context(), idA); err != nil { // passed on
		t.Fatal(err)
	}
	b.await(idA, "cancelled", inPhase(qos.PhaseCancelled))
}

func TestAHoldReachesAllNodesAndStands(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	if _, err := c.nodes[0].client().Hold(t.Context(), api.Hold{On: true, All: true, Reason: "exam"}); err != nil {
		t.Fatal(err)
	}
	held := func(want string) func() bool {
		return func() bool {
			return !slices.ContainsFunc(c.nodes, func(n *node) bool { return n.agent.holds().All != want })
		}
	}
	c.until("all are on hold", held("exam"))
	n := c.nodes[2]
	n.end()
	n.begin()
	c.until("it stands over a restart", held("exam"))
	if _, err := n.client().Hold(t.Context(), api.Hold{All: true}); err != nil {
		t.Fatal(err)
	}
	c.until("none is", held(""))
}

func TestAnAgentsRestartChangesNoOwner(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	a := c.nodes[0]
	a.submit(idA, `{"id":"/a","cmd":"sleep 1000","cpus":0.5,"mem":32,"qos":{"duration":5,"desv_deadline":0.1,"deadline":60}}`)
	_, _ = c.claimAt(a, idA, "t1")
	before := a.await(idA, "running", func(v api.Job) bool { return v.Phase == qos.PhaseRunning && v.Container != "" })
	a.end()
	a.begin()
	after := a.await(idA, "running", func(v api.Job) bool { return v.Phase == qos.PhaseRunning && v.Container != "" })
	if after.Epoch != before.Epoch || after.Owner != "n0" || after.Container != before.Container {
		t.Errorf("before %+v, after %+v", before, after)
	}
	c.until("the table says so everywhere", func() bool {
		return !slices.ContainsFunc(c.nodes, func(n *node) bool { s, ok := n.shared(idA); return !ok || s.Owner != "n0" || s.Epoch != before.Epoch })
	})
	if _, err := c.nodes[1].client().Cancel(t.Context(), idA); err != nil {
		t.Fatal(err)
	}
	a.await(idA, "cancelled", inPhase(qos.PhaseCancelled))
}

// lostPort is a framework that has lost sight of a task, and is told to give it up.
type lostPort struct {
	*fakePort

	mu       sync.Mutex
	lost     string // task
	expunged []string
}

func (p *lostPort) Look(ctx context.Context, spec qos.Spec) (sight, error) {
	s, err := p.fakePort.Look(ctx, spec)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost != "" {
		s.Tasks, s.Lost, s.Active = []string{p.lost}, []string{p.lost}, true
	}
	return s, err
}

func (p *lostPort) Expunge(_ context.Context, _, task string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expunged = append(p.expunged, task)
	p.lost = ""
	return nil
}

func TestTheStewardTakesOverFromANodeThatIsGone(t *testing.T) {
	t.Parallel()
	framework := &lostPort{}
	var once sync.Once
	c := startCluster(t, 3, func(_ int, n *node) {
		n.ports = func(p *fakePort) port { once.Do(func() { framework.fakePort = p }); return framework }
	})
	a := c.nodes[0]
	a.submit(idA, sleeper)
	_, _ = c.claimAt(a, idA, "t1")
	a.await(idA, "running", func(v api.Job) bool { return v.Phase == qos.PhaseRunning && v.Consumed >= 0 && v.Container != "" })
	c.until("all know that it runs", func() bool {
		return !slices.ContainsFunc(c.nodes, func(n *node) bool { s, ok := n.shared(idA); return !ok || s.Phase != qos.PhaseRunning })
	})
	framework.mu.Lock()
	framework.lost = "t1"
	framework.mu.Unlock()
	a.end()
	rest := c.nodes[1:]
	var heir *node
	c.until("one of the others has it", func() bool {
		for _, n := range rest {
			if n.agent.jobs.get(idA) != nil {
				heir = n
				return true
			}
		}
		return false
	})
	framework.mu.Lock()
	expunged := slices.Clone(framework.expunged)
	framework.mu.Unlock()
	if !slices.Equal(expunged, []string{"t1"}) {
		t.Errorf("expunged %v", expunged)
	}
	v := heir.await(idA, "lost", inPhase(qos.PhaseLost))
	if v.Owner != heir.cfg.Node || v.Tally.Failed != 1 {
		t.Errorf("%+v", v)
	}
	// the framework launches it again, wherever it likes: the steward hands it over
	other := rest[0]
	if other == heir {
		other = rest[1]
	}
	_, _ = c.claimAt(other, idA, "t2")
	other.await(idA, "running", func(v api.Job) bool { return v.Phase == qos.PhaseRunning && v.Container != "" })

	a.begin() // it comes back, with the container that had run on
	c.until("the node that came back has put its container aside", func() bool { return a.agent.jobs.get(idA) == nil })
	s, _ := a.shared(idA)
	if s.Owner != other.cfg.Node {
		t.Errorf("the owner is %s", s.Owner)
	}
	if _, err := a.client().Cancel(t.Context(), idA); err != nil {
		t.Fatal(err)
	}
	other.await(idA, "cancelled", inPhase(qos.PhaseCancelled))
}
