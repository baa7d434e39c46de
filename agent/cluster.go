package agent

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"qosctl/agent/peer"
	"qosctl/gossip"
	"qosctl/qos"
)

// Agents of a cluster share a table of all jobs (gossip.Mesh) and ask each other over mutual TLS (peer). A job is in a node's registry
// (jobs) as long as the node owns it, or acts for an owner that is gone; all others are rows of the table alone.

// mesh is what an agent asks of the table that it shares with its peers.
type mesh interface {
	Run(ctx context.Context) error
	Close() error
	Put(r qos.Record) (qos.Record, error)
	Get(id string) (qos.Record, bool)
	Sound(id string) (qos.Record, bool)
	Behind(id string) (from string, behind bool)
	Whole(id string) (qos.Record, bool)
	All() []qos.Record
	Remove(id string) error
	Removed(id string) bool
	Pull(ctx context.Context, from string, ids ...string) error
	Answer(ctx context.Context, from, kind string, body []byte) ([]byte, error)
	Members() []gossip.Member
	Member(name string) (gossip.Member, bool)
	SetMeta(m gossip.Meta) error
	Settled() bool
	Quorate() bool
	Unmet() bool
	Steward(job string) string
	Replicas(job string, k int) []string
	Mark(key, value string) error
	Marks() map[string]string
}

// caller asks other agents: peer.Client.
type peerCaller interface {
	Do(ctx context.Context, to peer.Target, method, path string, body []byte) (*http.Response, error)
}

// cluster is a node's part of its cluster.
type cluster struct {
	mesh   mesh
	peers  peerCaller
	fence  fence
	server *peer.Server // nil: in tests

	keys     *gossip.Keyring
	identity *peer.Identity
	skews    skews

	mu       sync.Mutex
	gone     map[string]time.Time     // nodes that are not alive, and since when this one knows
	turning  map[string]bool          // jobs of nodes that are gone, being taken over
	stirred  chan struct{}            // members or rows have changed
	told     map[string]time.Time     // accounts that are owed to other nodes, and when they were last told of them
	deposits map[string]time.Duration // what replicas have of accounts whose owners do not answer
	missed   map[string]time.Time     // jobs of nodes that are gone that their framework does not know, and since when
	handed   map[string]handing       // jobs that were handed to a peer whose claim has not arrived
	barred   map[string]barred        // jobs that the fence does not let this node have
	lastMeta gossip.Meta
	nextLook time.Time // at the whole table, by the loop alone
}

func newCluster(m mesh, p peerCaller) *cluster {
	return &cluster{
		mesh: m, peers: p, gone: map[string]time.Time{}, turning: map[string]bool{}, handed: map[string]handing{}, told: map[string]time.Time{},
		deposits: map[string]time.Duration{}, missed: map[string]time.Time{},
		barred: map[string]barred{}, stirred: make(chan struct{}, 1),
	}
}

// standing is how a node seems to be.
type nodeState int

const (
	nodeAlive  nodeState = iota
	nodeSilent           // it does not answer, but it may come back any moment
	nodeGone             // it has not answered for the grace, or has left
)

// member returns a node as the table's members show it.
func (c *cluster) member(node string) (gossip.Member, bool) { return c.mesh.Member(node) }

// alive are the other members that answer.
func (a *Agent) alive() []gossip.Member {
	return slices.DeleteFunc(a.cluster.mesh.Members(), func(m gossip.Member) bool {
		return m.Name == a.node || m.State != gossip.Alive || m.Meta.Peer == ""
	})
}

// near are the other members that may answer: alive, or not heard of for a moment.
func (a *Agent) near() []gossip.Member {
	return slices.DeleteFunc(a.cluster.mesh.Members(), func(m gossip.Member) bool {
		return m.Name == a.node || m.State != gossip.Alive && m.State != gossip.Suspect || m.Meta.Peer == ""
	})
}

// stateOf says how a node seems to be. One that the table does not know is gone when this agent has known of it for the grace.
func (a *Agent) stateOf(node string, now time.Time) nodeState {
	if node == a.node || node == "" {
		return nodeAlive
	}
	m, known := a.cluster.member(node)
	c := a.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case known && m.State == gossip.Alive:
		delete(c.gone, node)
		return nodeAlive
	case known && m.State == gossip.Suspect:
		return nodeSilent
	case known && m.State == gossip.Left:
		return nodeGone
	}
	since, ok := c.gone[node]
	if !ok {
		since = now
		c.gone[node] = now
	}
	if now.Sub(since) < a.cfg.Cluster.Grace {
		return nodeSilent
	}
	return nodeGone
}

// target is where a member's peer API is.
func target(m gossip.Member) peer.Target { return peer.Target{Node: m.Name, Addr: m.Meta.Peer} }

// owned says whether a row is this node's.
func (a *Agent) owned(r qos.Record) bool { return r.Status.Owner == a.node }

// responsible is the node that looks after a job: its owner, or the steward if that is gone.
func (a *Agent) responsible(r qos.Record, now time.Time) string {
	if a.stateOf(r.Status.Owner, now) == nodeGone {
		return a.cluster.mesh.Steward(r.Spec.ID)
	}
	return r.Status.Owner
}

// share tells the table what has become of a job of this node. The caller holds j.mu.
func (a *Agent) share(j *job) {
	if a.cluster == nil {
		return
	}
	r := j.row.clone().Record
	stored, err := a.cluster.mesh.Put(r)
	if err != nil {
		a.log.Warn("tell peers of a job", "job", j.spec().Name, "err", err) // the next change tells it too
		return
	}
	switch is := &stored.Status; {
	case is.Epoch == r.Status.Epoch && is.Owner == r.Status.Owner: // under another number, if this one was used before
		j.status().Seq = max(j.status().Seq, is.Seq)
	case is.Newer(r.Status) && j.rival == nil && !j.gone: // it was heard of before this node had the job, and nothing tells of it again
		a.spawn(func(context.Context) { a.peerChanged(stored) })
	}
}

// unshare removes a job that this node forgets from the table.
func (a *Agent) unshare(id string) {
	if a.cluster == nil {
		return
	}
	a.forgetFence(id)
	if err := a.cluster.mesh.Remove(id); err != nil {
		a.log.Warn("remove a job from the table", "job", id, "err", err) // it expires there
	}
}

// peerChanged takes what a peer wrote of a job into what this node knows of it.
func (a *Agent) peerChanged(r qos.Record) {
	defer a.stir()
	a.hearModel(r)
	j := a.jobs.get(r.Spec.ID)
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.gone {
		return
	}
	mine := j.status()
	if r.Status.Newer(*mine) && !a.owned(r) {
		a.superseded(j, r)
		return
	}
	if r.Status.Newer(*mine) { // of a life of this node that its store does not remember: go on above it
		mine.Epoch, mine.Seq = max(mine.Epoch, r.Status.Epoch), r.Status.Seq+1
	}
	cancelled := mine.Intent != qos.IntentCancel && r.Status.Intent == qos.IntentCancel
	over := mine.Phase.Terminal() && mine.Steward.Pending == qos.ActDelete
	*mine = mine.Merge(r.Status)
	j.errand = j.steward().Clone()
	j.errand.Duty, j.errand.By = 0, ""
	if over && !j.steward().Attached { // a duty of somebody who did not know that the job has ended: only who removes it knows that it is gone
		j.steward().Pending = qos.ActDelete
	}
	if cancelled {
		j.note(time.Now(), "cancel", "cancelled at another node")
		a.obeyCancel(j)
	}
	_ = a.save(j) // retried by the sweep
}

// obeyCancel does what follows from a cancel that is noted. The caller holds j.mu.
func (a *Agent) obeyCancel(j *job) {
	st := j.status()
	if !st.Phase.Terminal() && !j.steward().Attached {
		j.steward().Pending = qos.ActDelete // as who cancelled has noted; but another's later duty may have covered that
	}
	switch {
	case st.Phase.Terminal():
	case j.live != nil && !j.steward().Adopted:
		a.halt(j, string(qos.IntentCancel))
	case j.idle():
		if err := j.enter(qos.PhaseCancelled, time.Now(), "cancelled"); err != nil {
			a.log.Error("phase", "job", j.spec().Name, "err", err)
		}
	}
	a.stewardSoon()
}

// stir has the cluster's loop look at once.
func (a *Agent) stir() { kick(a.cluster.stirred) }

// lookEvery of the cluster's loop.
const clusterTick = time.Second

// clusterLoop tells peers of this node, settles who holds what, and takes over from those that are gone.
func (a *Agent) clusterLoop(ctx context.Context) error {
	if a.cluster == nil {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(clusterTick)
	defer tick.Stop()
	for {
		now := time.Now()
		a.tellMeta()
		a.confrontRivals(now)
		a.takeOverFrom(ctx, now)
		a.pay(now)
		a.drain(ctx, now)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-a.cluster.stirred:
			if !pause(ctx, 100*time.Millisecond) { // what comes together is looked at once
				return nil
			}
		}
	}
}

// tellMeta tells peers what this node has.
func (a *Agent) tellMeta() {
	s := a.snapshot.Load()
	m := gossip.Meta{
		Peer: a.cfg.Cluster.peerAddress(), API: a.public(), Hostname: a.hostname(),
		ProtocolMin: gossip.ProtocolMin, ProtocolMax: gossip.ProtocolMax, Version: a.version, CPUs: a.cpus - a.cfg.Control.Reserve,
		Held: a.heldHere() != "", Draining: a.draining(),
	}
	if s != nil {
		m.Headroom, m.Allocated, m.Jobs = round(s.Headroom), round(s.Allocated), s.granted
	}
	a.tellRoom(&m)
	if k := a.engines.keeper; k != nil && isClosed(a.tested) {
		if r := k.Report(); r.Driver != "" {
			m.Checkpoints, m.Class = true, r.Class.Digest()
		}
	}
	c := a.cluster
	c.mu.Lock()
	same := sameMeta(m, c.lastMeta)
	c.lastMeta = m
	c.mu.Unlock()
	if same {
		return
	}
	if err := c.mesh.SetMeta(m); err != nil {
		a.log.Warn("tell peers of this node", "err", err)
	}
}

// round makes a figure change seldom: peers are told tenths of a CPU.
func round(cpus float64) float64 { return float64(int(cpus*10)) / 10 }

func sameMeta(x, y gossip.Meta) bool { return fmt.Sprint(x) == fmt.Sprint(y) }

// meshLoop runs the table and the server that peers ask.
func (a *Agent) meshLoop(ctx context.Context) error {
	if a.cluster == nil {
		<-ctx.Done()
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.cluster.mesh.Run(ctx) })
	if s := a.cluster.server; s != nil {
		g.Go(func() error { return s.Run(ctx) })
	}
	return g.Wait()
}

// rejoin compares the jobs of the store with the table as it was remembered: what another node has claimed since is given up.
func (a *Agent) rejoin() {
	if a.cluster == nil {
		return
	}
	for _, r := range a.cluster.mesh.All() {
		a.hearModel(r)
	}
	for _, j := range a.jobs.all() {
		j.mu.Lock()
		a.share(j)
		j.mu.Unlock()
		if r, ok := a.cluster.mesh.Get(j.spec().ID); ok {
			a.peerChanged(r)
		}
	}
}

// mesosHost is this node's name in Mesos; "": it is not known.
func (a *Agent) mesosHost() string {
	if a.mesos == nil {
		return ""
	}
	a.mesos.mu.Lock()
	defer a.mesos.mu.Unlock()
	return a.mesos.host
}
