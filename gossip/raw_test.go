package gossip_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"qosctl/gossip/gossiptest"
)

// rawNode is memberlist as it comes, with the same timers and without encryption: messages of 400 bytes that each node queues again
// when it sees them first, and, for a heal, the whole table in each exchange of states.
type rawNode struct {
	list  *memberlist.Memberlist
	queue memberlist.TransmitLimitedQueue

	mu    sync.Mutex
	seen  map[uint64]bool
	table []uint32 // epoch of each job; 400 bytes of a state stand for one
}

const rawRow = 400

func (r *rawNode) NodeMeta(int) []byte { return make([]byte, 64) }

func (r *rawNode) NotifyMsg(b []byte) { r.learn(bytes.Clone(b)) }

func (r *rawNode) GetBroadcasts(overhead, limit int) [][]byte {
	return r.queue.GetBroadcasts(overhead, limit)
}

func (r *rawNode) LocalState(bool) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := make([]byte, len(r.table)*rawRow)
	for i, epoch := range r.table {
		binary.BigEndian.PutUint32(b[i*rawRow:], epoch)
	}
	return b
}

func (r *rawNode) MergeRemoteState(b []byte, _ bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.table {
		if (i+1)*rawRow <= len(b) {
			r.table[i] = max(r.table[i], binary.BigEndian.Uint32(b[i*rawRow:]))
		}
	}
}

func (r *rawNode) learn(b []byte) {
	n := binary.BigEndian.Uint64(b)
	r.mu.Lock()
	fresh := !r.seen[n]
	r.seen[n] = true
	r.mu.Unlock()
	if fresh {
		r.queue.QueueBroadcast(rawMessage{b})
	}
}

func (r *rawNode) knows(n uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[n]
}

type rawMessage struct{ b []byte }

func (m rawMessage) Invalidates(memberlist.Broadcast) bool { return false }
func (m rawMessage) Message() []byte                       { return m.b }
func (m rawMessage) Finished()                             {}
func (m rawMessage) UniqueBroadcast()                      {}

type rawCluster struct {
	net   *gossiptest.Network
	nodes []*rawNode
	addr  []string
}

// newRaw starts n nodes with the timers of profile fast.
func newRaw(t *testing.T, n, jobs int) *rawCluster {
	c := &rawCluster{net: gossiptest.New(gossiptest.Options{Seed: 9})}
	lists := make([]*memberlist.Memberlist, n)
	for i := range n {
		<-time.After(time.Second / time.Duration(n)) // phases apart
		transport, addr := c.net.Transport(gossiptest.Name(i))
		r := &rawNode{seen: map[uint64]bool{}, table: make([]uint32, jobs)}
		conf := memberlist.DefaultLANConfig()
		conf.Name, conf.Transport, conf.Delegate, conf.LogOutput = gossiptest.Name(i), transport, r, io.Discard
		conf.GossipInterval, conf.GossipNodes, conf.ProbeTimeout, conf.SuspicionMult = 100*time.Millisecond, 4, 250*time.Millisecond, 3
		conf.PushPullInterval, conf.GossipToTheDeadTime, conf.TCPTimeout = 10*time.Second, 2*time.Minute, 3*time.Second
		conf.ProbeInterval, conf.EnableCompression = 950*time.Millisecond, false
		list, err := memberlist.Create(conf)
		if err != nil {
			t.Fatal(err)
		}
		r.list = list
		r.queue = memberlist.TransmitLimitedQueue{NumNodes: list.NumMembers, RetransmitMult: conf.RetransmitMult}
		if i > 0 {
			if _, err := list.Join([]string{c.addr[0]}); err != nil {
				t.Fatal(err)
			}
		}
		c.nodes, c.addr, lists[i] = append(c.nodes, r), append(c.addr, addr), list
	}
	introduce(t, lists, c.addr[0])
	return c
}

func (c *rawCluster) close(t *testing.T) {
	for _, r := range c.nodes {
		if err := r.list.Shutdown(); err != nil {
			t.Error(err)
		}
	}
	<-time.After(time.Minute)
}

func (c *rawCluster) until(t *testing.T, within, every time.Duration, cond func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !cond() {
		if time.Since(began) > within {
			return within
		}
		<-time.After(every)
	}
	return time.Since(began)
}

func (c *rawCluster) together(t *testing.T) {
	c.until(t, 5*time.Minute, 100*time.Millisecond, func() bool {
		return !slices.ContainsFunc(c.nodes, func(r *rawNode) bool { return r.list.NumMembers() != len(c.nodes) })
	})
}

// claims is how long messages take to 99 % of the nodes.
func rawClaims(t *testing.T, n, claims int) []time.Duration {
	c := newRaw(t, n, 0)
	defer c.close(t)
	c.together(t)
	var took []time.Duration
	for k := range claims {
		<-time.After(10*time.Second + time.Duration(k)*37*time.Millisecond)
		msg := make([]byte, rawRow)
		binary.BigEndian.PutUint64(msg, uint64(k))
		c.nodes[(k*17+3)%n].learn(msg)
		missing := slices.Clone(c.nodes)
		took = append(took, c.until(t, 15*time.Second, 5*time.Millisecond, func() bool {
			missing = slices.DeleteFunc(missing, func(r *rawNode) bool { return r.knows(uint64(k)) })
			return len(missing)*100 <= n
		}))
	}
	return took
}

// rawDeath is how long it takes until all know that a node died.
func rawDeath(t *testing.T, n, deaths int) []time.Duration {
	c := newRaw(t, n, 0)
	defer c.close(t)
	c.together(t)
	var took []time.Duration
	for k := range deaths {
		<-time.After(20*time.Second + time.Duration(k)*317*time.Millisecond)
		c.net.Kill(gossiptest.Name(n - 1 - k))
		alive := c.nodes[:n-1-k]
		took = append(took, c.until(t, time.Minute, 20*time.Millisecond, func() bool {
			return !slices.ContainsFunc(alive, func(r *rawNode) bool { return r.list.NumMembers() != len(alive) })
		}))
	}
	return took
}

// rawHeal parts the cluster as measureHeal does. One node is told to join: without that the halves never meet.
func rawHeal(t *testing.T, n, jobs int, cut, most time.Duration) (tables time.Duration, streamBytes int64) {
	c := newRaw(t, n, jobs)
	defer c.close(t)
	c.together(t)
	var left []string
	for i := range n / 2 {
		left = append(left, gossiptest.Name(i))
	}
	c.net.Cut(left)
	<-time.After(cut / 2)
	for i := range jobs {
		r := c.nodes[i%n]
		r.mu.Lock()
		r.table[i] = 2
		r.mu.Unlock()
	}
	<-time.After(cut - cut/2)
	before := c.streams()
	c.net.Heal()
	if _, err := c.nodes[0].list.Join([]string{c.addr[n-1]}); err != nil {
		t.Fatal(err)
	}
	tables = c.until(t, most, 50*time.Millisecond, func() bool {
		return !slices.ContainsFunc(c.nodes, func(r *rawNode) bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return slices.Contains(r.table, 0)
		})
	})
	return tables, c.streams() - before
}

func (c *rawCluster) streams() (sum int64) {
	for i := range c.nodes {
		sum += c.net.Sent(gossiptest.Name(i)).Stream
	}
	return sum
}

// rawRest is what a node sends at rest.
func rawRest(t *testing.T, n, jobs int, during time.Duration) rest {
	c := newRaw(t, n, jobs)
	defer c.close(t)
	c.together(t)
	<-time.After(time.Minute)
	total := func() (b gossiptest.Bytes) {
		for i := range c.nodes {
			s := c.net.Sent(gossiptest.Name(i))
			b.Packet, b.Stream = b.Packet+s.Packet, b.Stream+s.Stream
		}
		return b
	}
	before := total()
	<-time.After(during)
	after := total()
	per := float64(n) * during.Seconds()
	return rest{packets: float64(after.Packet-before.Packet) / per, streams: float64(after.Stream-before.Stream) / per}
}

// rawBurst is how long it takes until so many messages, sent within a second, are everywhere.
func rawBurst(t *testing.T, n, claims int, most time.Duration) time.Duration {
	c := newRaw(t, n, 0)
	defer c.close(t)
	c.together(t)
	<-time.After(10 * time.Second)
	began := time.Now()
	for i := range claims {
		msg := make([]byte, rawRow)
		binary.BigEndian.PutUint64(msg, uint64(i))
		c.nodes[(i*7+1)%n].learn(msg)
		<-time.After(time.Second / time.Duration(claims))
	}
	c.until(t, most, 50*time.Millisecond, func() bool {
		return !slices.ContainsFunc(c.nodes, func(r *rawNode) bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return len(r.seen) < claims
		})
	})
	return time.Since(began)
}
