package agent

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"qosctl/gossip"
	"qosctl/gossip/gossiptest"
	"qosctl/qos"
)

// A simulated cluster in a bubble of testing/synctest: real agents, whole but for their sockets, with stores of their own on disk, gossip
// over a network in memory, and around them a world in memory: machines with containers, checkpoints and counters, a Mesos master with a
// Marathon, stand-ins. Faults come from a seed. What no bubble can do:
//   - time stands still for nobody, so a paused agent's timers run; but nothing that it wants to do to the world is done, and nothing that
//     it is asked is answered, before it is let go on. To gossip it is as if cut off.
//   - time.Now is the same for all. A node whose clock is set is simulated where another clock can come in: in the times that its engine
//     and its checkpoints tell. All that the agent measures itself is elapsed time, which a jump does not touch.
//   - which of two goroutines that are ready at the same instant runs first is not the seed's to say (the scheduler, select, the order of
//     maps, writes to disk that take real time), nor are the random picks of memberlist and of gossip's loops. A seed gives the same faults
//     and the same jobs at the same times, and the same chance to who does the same at the same time; a replay is alike, not the same:
//     what failed once in a soak may need tens of them.

// world is everything outside the agents.
type world struct {
	tb   testing.TB
	seed uint64
	net  *gossiptest.Network
	keys *gossip.Keyring
	dir  string
	cfg  func(*Config) // changes every agent's configuration; nil: nothing
	zk   *simFence     // nil: there is none

	mu       sync.Mutex // guards all that follows, never held while anything waits; it may be taken under a job's lock, not the other way round
	nodes    []*simNode
	sides    map[string]int // by node, and of the master under its name
	master   *master
	trouble  float64 // share of calls whose answer is lost
	events   []string
	failures []string
	began    time.Time
	starts   []simStart
	ledger   []*simContainer // all that there ever were
	resizes  int
	jobs     []*simJob
	calm     time.Time // from then on no job has two containers; zero: not yet
	copies   int       // of stores
	wg       sync.WaitGroup
}

const masterName = "master"

// simStart is a container that an agent began to run.
type simStart struct {
	at    time.Time
	job   string
	node  string
	epoch uint64
	id    string
}

// simNode is a machine.
type simNode struct {
	w    *world
	name string

	// Under the world's mu.
	up          bool
	life        int    // of its agent: what an earlier one does has no effect
	agent       *Agent // nil: none runs
	stop        context.CancelFunc
	disk        string        // of the present agent
	paused      chan struct{} // closed when it is let go on; nil: it is not paused
	blind       time.Time     // since when no agent has read any counter; zero: one does
	skew        time.Duration // of its clock
	containers  map[string]*simContainer
	checkpoints []*simCheckpoint
	sequences   map[string]int // the highest that was given, by job
	unfit       error          // what restores fail with; nil: they don't
	sealing     chan struct{}  // nothing is sealed before it is closed; nil: at once
	recovering  chan struct{}  // nor is it known before what an earlier agent has left; nil: at once
	cutSince    time.Time      // from the master; zero: it is not
	lost        bool           // the master has given it up for now
	missed      time.Time      // when it last was so
}

// newWorld makes n machines without agents. It must be called in a bubble.
func newWorld(tb testing.TB, seed uint64, n int, cfg func(*Config)) *world {
	tb.Helper()
	keys, err := gossip.NewKeyring(gossip.NewKey())
	if err != nil {
		tb.Fatal(err)
	}
	w := &world{
		tb: tb, seed: seed, keys: keys, dir: ramDir(tb), cfg: cfg, sides: map[string]int{}, began: time.Now(),
		net: gossiptest.New(gossiptest.Options{Seed: seed, Latency: time.Millisecond, Jitter: 2 * time.Millisecond}),
	}
	w.master = &master{w: w, apps: map[string]*app{}}
	for i := range n {
		w.nodes = append(w.nodes, &simNode{w: w, name: fmt.Sprintf("n%d", i), up: true, containers: map[string]*simContainer{}, sequences: map[string]int{}})
	}
	return w
}

// ramDir is a directory that costs no disk writes, where there is one.
func ramDir(tb testing.TB) string {
	tb.Helper()
	base := "/dev/shm"
	if _, err := os.Stat(base); err != nil {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "qosctl-sim-")
	if err != nil {
		tb.Fatal(err)
	}
	return dir
}

// run starts the agents and the world's clockwork. stop ends all of it.
func (w *world) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	for _, n := range w.nodes {
		n.boot()
	}
	w.wg.Go(func() { w.kernel(ctx) })
	w.wg.Go(func() { w.master.loop(ctx) })
	w.wg.Go(func() { w.observe(ctx) })
	return func() {
		cancel()
		for _, n := range w.nodes {
			n.kill()
		}
		w.master.end()
		w.wg.Wait()
		pause(context.Background(), time.Minute) // memberlist does not wait for the probe that is under way
	}
}

// say notes an event of the run, for whoever must find out why it failed. The caller holds mu.
func (w *world) say(format string, args ...any) {
	w.events = append(w.events, fmt.Sprintf("%9.3f ", time.Since(w.began).Seconds())+fmt.Sprintf(format, args...))
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.say(format, args...)
}

// fault notes that an invariant does not hold. The caller holds mu.
func (w *world) fault(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.say("FAULT: %s", text)
	if len(w.failures) < 10 {
		w.failures = append(w.failures, text)
	}
}

// draw is chance for one who, at this instant: it does not depend on what others drew before, whose order is not the seed's to say.
func (w *world) draw(who string) *rand.Rand {
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, who, time.Since(w.began).Nanoseconds())
	return rand.New(rand.NewPCG(w.seed, h.Sum64()))
}

// roll says yes with a probability.
func (w *world) roll(p float64, who string) bool { return w.draw(who).Float64() < p }

// between is a time at random.
func (w *world) between(low, high time.Duration, who string) time.Duration {
	return low + time.Duration(w.draw(who).Int64N(int64(high-low)+1))
}

// reaches says whether two nodes, or a node and the master, hear each other. The caller holds mu.
func (w *world) reaches(x, y string) bool {
	for _, name := range []string{x, y} {
		if n := w.node(name); n != nil && !n.up {
			return false
		}
	}
	return w.sides[x] == w.sides[y]
}

func (w *world) node(name string) *simNode {
	i := slices.IndexFunc(w.nodes, func(n *simNode) bool { return n.name == name })
	if i < 0 {
		return nil
	}
	return w.nodes[i]
}

// cut parts the network; those that are in no group are together with the master unless it is in one.
func (w *world) cut(groups ...[]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.sides)
	for i, g := range groups {
		for _, name := range g {
			w.sides[name] = i + 1
		}
	}
	w.say("cut %v", groups)
	w.part()
}

// part tells gossip's network who reaches whom: a paused agent reaches nobody. The caller holds mu.
func (w *world) part() {
	by := map[int][]string{}
	var groups [][]string
	for _, n := range w.nodes {
		if n.paused != nil {
			groups = append(groups, []string{n.name})
			continue
		}
		by[w.sides[n.name]] = append(by[w.sides[n.name]], n.name)
	}
	for _, g := range by {
		groups = append(groups, g)
	}
	w.net.Cut(groups...)
}

// boot starts the node's agent on what its disk has.
func (n *simNode) boot() {
	w := n.w
	w.mu.Lock()
	if !n.up || n.agent != nil {
		w.mu.Unlock()
		return
	}
	n.life++
	h := hand{n, n.life}
	if n.disk == "" {
		n.disk = w.newDisk(n)
	}
	cfg := n.config()
	w.say("%s: agent starts (life %d)", n.name, n.life)
	w.mu.Unlock()
	a, err := h.make(cfg)
	if err != nil {
		w.tb.Fatalf("%s: %v", n.name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.mu.Lock()
	n.agent, n.stop = a, cancel
	n.watched()
	w.mu.Unlock()
	w.wg.Go(func() {
		if err := a.Run(ctx); err != nil && ctx.Err() == nil {
			w.note("%s: agent ended: %v", n.name, err)
		}
	})
}

// newDisk is a directory for a node. The caller holds mu.
func (w *world) newDisk(n *simNode) string {
	w.copies++
	return filepath.Join(w.dir, fmt.Sprintf("%s-%d", n.name, w.copies))
}

func (n *simNode) config() Config {
	cfg := Default()
	cfg.Node, cfg.Listen, cfg.Mesos.URL, cfg.Engine.Docker = n.name, "", "", ""
	cfg.DataDir, cfg.RunDir = filepath.Join(n.disk, "data"), filepath.Join(n.disk, "run")
	cfg.Cgroup.Root, cfg.Cgroup.Proc = n.cgroups(), n.cgroups()
	cfg.Control.CPUs = 4
	cfg.Cluster.Hostname, cfg.Cluster.Peer = n.name, n.name+":30001"
	cfg.Checkpoint.Interval, cfg.Checkpoint.Replicas = 20*time.Second, 1
	if n.w.cfg != nil {
		n.w.cfg(&cfg)
	}
	return cfg
}

// make makes an agent whose only ways to the world are the hand's.
func (h hand) make(cfg Config) (*Agent, error) {
	n, w := h.n, h.n.w
	logs := slog.DiscardHandler
	if os.Getenv("QOSCTL_SIM_LOG") != "" {
		logs = slog.NewTextHandler(simLog{w, n.name}, &slog.HandlerOptions{Level: simLevel(), ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})
	}
	a, err := New(Options{Config: cfg, Version: "sim", Logger: slog.New(logs), engines: h.engines})
	if err != nil {
		return nil, err
	}
	a.listen = func(context.Context) ([]*server, error) { return nil, nil }
	a.ports = map[qos.Framework]port{qos.Marathon: &simPort{hand: h}}
	a.poll = 5 * time.Second
	transport, address := w.net.Transport(n.name)
	a.cluster = newCluster(nil, &simCaller{h})
	if w.zk != nil {
		a.cluster.fence = w.zk
	}
	o := gossip.Options{
		Node: n.name, Bind: address, Label: "sim", Keys: w.keys, Store: a.store.gossip(), Peers: meshPeers{a.cluster.peers}, Transport: transport,
		Changed: a.peerChanged, MembersChanged: a.stir, MarksChanged: a.marked, Accounts: a.accounts, Logger: slog.New(logs),
	}
	for i := range w.nodes[:3] {
		o.Join = append(o.Join, fmt.Sprintf("10.0.0.%d:7946", i+1))
	}
	a.cluster.mesh, err = gossip.New(o)
	return a, err
}

type simLog struct {
	w    *world
	node string
}

func (l simLog) Write(b []byte) (int, error) {
	l.w.note("%s: %s", l.node, strings.TrimSpace(string(b)))
	return len(b), nil
}

// kill ends the node's agent as kill -9 does: what it had on disk stays as it is at this moment, what it was about to do is not done.
func (n *simNode) kill() {
	w := n.w
	w.mu.Lock()
	a, stop := n.agent, n.stop
	if a == nil {
		w.mu.Unlock()
		return
	}
	n.agent, n.stop = nil, nil
	n.watched()
	n.life++
	next := w.newDisk(n)
	w.say("%s: agent killed", n.name)
	w.mu.Unlock()
	w.net.Kill(n.name)
	if err := copyStore(a, filepath.Join(next, "data")); err != nil {
		w.tb.Errorf("%s: %v", n.name, err)
	}
	w.mu.Lock()
	n.disk = next
	w.mu.Unlock()
	stop()
}

func copyStore(a *Agent, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return a.store.db.View(func(tx *bolt.Tx) error { return tx.CopyFile(filepath.Join(dir, storeFile), 0o600) })
}

// simLevel is from which level on the agents' logs are among the events: QOSCTL_SIM_LOG=debug shows all.
func simLevel() slog.Level {
	if os.Getenv("QOSCTL_SIM_LOG") == "debug" {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}
