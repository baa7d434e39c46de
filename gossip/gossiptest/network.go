// Package gossiptest is a network in memory for tests of gossip and of what is built on it: memberlist's transport and the calls between
// nodes, with delay, loss, reordering, partitions and kills, to be used in a bubble of testing/synctest. Which packet is lost follows
// from the seed and from the order in which packets are sent.
package gossiptest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"qosctl/gossip"
)

// Options are a network's habits.
type Options struct {
	Seed    uint64
	Latency time.Duration // one way; 0: half a millisecond
	Jitter  time.Duration // at most so much is added to a packet's latency: this reorders
	Loss    float64       // share of packets that never arrive
}

// Network connects nodes by address. A node that is not there, is killed, or lies on the other side of a cut answers nobody: packets
// vanish, dials and calls run into their timeouts.
type Network struct {
	mu    sync.Mutex
	opts  Options
	rng   *rand.Rand
	nodes map[string]*Transport // by address
	names map[string]*Transport
	side  map[string]int // by name; nodes of different sides do not reach each other
	next  int
}

// New makes a network.
func New(opts Options) *Network {
	if opts.Latency <= 0 {
		opts.Latency = 500 * time.Microsecond
	}
	return &Network{
		opts: opts, rng: rand.New(rand.NewPCG(opts.Seed, 1)),
		nodes: map[string]*Transport{}, names: map[string]*Transport{}, side: map[string]int{},
	}
}

// Loss changes the share of packets that are lost.
func (n *Network) Loss(share float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.opts.Loss = share
}

// Cut parts the network: each group reaches its own nodes only, and the nodes that are in no group reach each other only.
func (n *Network) Cut(groups ...[]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.side)
	for i, g := range groups {
		for _, name := range g {
			n.side[name] = i + 1
		}
	}
	n.breakStreams()
}

// Heal ends all cuts.
func (n *Network) Heal() { n.Cut() }

// Kill makes a node silent, as if its machine had lost its power. What it holds in memory goes on running unheard.
func (n *Network) Kill(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t := n.names[name]; t != nil {
		t.dead = true
		n.breakStreams()
	}
}

// breakStreams ends the streams that lead where nobody is reached any more. It is called under mu.
func (n *Network) breakStreams() {
	for _, t := range n.nodes {
		for c := range t.streams {
			if !n.reaches(t, n.nodes[c.to]) {
				_ = c.Conn.Close() // a pipe
			}
		}
	}
}

// reaches says whether b hears a. It is called under mu.
func (n *Network) reaches(a, b *Transport) bool {
	return a != nil && b != nil && !a.dead && !b.dead && n.side[a.name] == n.side[b.name]
}

// Bytes is what a node has sent since the start: in packets, in memberlist's streams, and in bodies and answers of calls, those that it
// has answered included.
type Bytes struct{ Packets, Packet, Stream, Call int64 }

// Sent is what a node has sent so far.
func (n *Network) Sent(name string) Bytes {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t := n.names[name]; t != nil {
		return t.sent
	}
	return Bytes{}
}

// Transport adds a node, or puts it back after a restart, and returns its end of the network and its address. A node's address stays the
// same.
func (n *Network) Transport(name string) (*Transport, string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := &Transport{net: n, name: name, packets: make(chan *memberlist.Packet, 1024), conns: make(chan net.Conn, 64), streams: map[*stream]bool{}}
	if old := n.names[name]; old != nil {
		t.addr, t.ip, t.sent = old.addr, old.ip, old.sent
	} else {
		n.next++
		t.ip = net.IPv4(10, byte(n.next>>16), byte(n.next>>8), byte(n.next))
		t.addr = net.JoinHostPort(t.ip.String(), "7946")
	}
	n.nodes[t.addr], n.names[name] = t, t
	return t, t.addr
}

// Transport is a node's end of the network.
type Transport struct {
	net     *Network
	name    string
	addr    string
	ip      net.IP
	packets chan *memberlist.Packet
	conns   chan net.Conn

	// Under the network's mu.
	mesh    *gossip.Mesh
	dead    bool
	sent    Bytes
	streams map[*stream]bool
}

// Serve says which Mesh answers the calls for this node.
func (t *Transport) Serve(m *gossip.Mesh) {
	t.net.mu.Lock()
	defer t.net.mu.Unlock()
	t.mesh = m
}

// FinalAdvertiseAddr is memberlist's.
func (t *Transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) { return t.ip, 7946, nil }

// PacketCh is memberlist's.
func (t *Transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh is memberlist's.
func (t *Transport) StreamCh() <-chan net.Conn { return t.conns }

// Shutdown is memberlist's.
func (t *Transport) Shutdown() error {
	t.net.mu.Lock()
	t.dead = true // nobody dials it any more
	for c := range t.streams {
		_ = c.Conn.Close() // a pipe
	}
	t.net.mu.Unlock()
	for { // without the lock, which Close takes
		select {
		case c := <-t.conns:
			_ = c.Close() // a pipe
		default:
			return nil
		}
	}
}

// WriteTo is memberlist's.
func (t *Transport) WriteTo(b []byte, addr string) (time.Time, error) {
	n := t.net
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if t.dead {
		return now, nil
	}
	t.sent.Packets++
	t.sent.Packet += int64(len(b))
	to := n.nodes[addr]
	lost := n.opts.Loss > 0 && n.rng.Float64() < n.opts.Loss
	delay := n.opts.Latency
	if n.opts.Jitter > 0 {
		delay += time.Duration(n.rng.Int64N(int64(n.opts.Jitter)))
	}
	if lost || !n.reaches(t, to) {
		return now, nil
	}
	p := &memberlist.Packet{Buf: append([]byte(nil), b...), From: &net.UDPAddr{IP: t.ip, Port: 7946}}
	time.AfterFunc(delay, func() { n.deliver(t, to, p) })
	return now, nil
}

func (n *Network) deliver(from, to *Transport, p *memberlist.Packet) {
	n.mu.Lock()
	ok := n.reaches(from, to)
	n.mu.Unlock()
	if !ok {
		return
	}
	p.Timestamp = time.Now()
	select {
	case to.packets <- p:
	default: // as a socket's full buffer
	}
}

var errTimeout = errors.New("gossiptest: i/o timeout")

// DialTimeout is memberlist's.
func (t *Transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	n := t.net
	n.mu.Lock()
	to := n.nodes[addr]
	ok := n.reaches(t, to)
	n.mu.Unlock()
	if !ok {
		<-time.After(timeout)
		return nil, errTimeout
	}
	<-time.After(2 * n.opts.Latency)
	a, b := net.Pipe()
	mine, theirs := &stream{Conn: a, end: t, to: addr}, &stream{Conn: b, end: to, to: t.addr, from: &net.TCPAddr{IP: t.ip, Port: 40000}}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.reaches(t, to) {
		return nil, errTimeout
	}
	select {
	case to.conns <- theirs:
	default:
		return nil, errors.New("gossiptest: connection refused")
	}
	t.streams[mine], to.streams[theirs] = true, true
	return mine, nil
}

// stream is one end of a stream.
type stream struct {
	net.Conn
	end  *Transport
	to   string
	from net.Addr
}

func (s *stream) Write(b []byte) (int, error) {
	k, err := s.Conn.Write(b)
	s.end.net.mu.Lock()
	s.end.sent.Stream += int64(k)
	s.end.net.mu.Unlock()
	if errors.Is(err, io.ErrClosedPipe) {
		err = net.ErrClosed
	}
	return k, err
}

func (s *stream) Close() error {
	s.end.net.mu.Lock()
	delete(s.end.streams, s)
	s.end.net.mu.Unlock()
	return s.Conn.Close()
}

func (s *stream) RemoteAddr() net.Addr {
	if s.from != nil {
		return s.from
	}
	return s.Conn.RemoteAddr()
}

// Call is gossip.Peers': it asks the Mesh of the node that to names.
func (t *Transport) Call(ctx context.Context, to gossip.Member, kind string, body []byte) ([]byte, error) {
	n := t.net
	if err := n.travel(ctx, t, to.Name, len(body)); err != nil {
		return nil, err
	}
	n.mu.Lock()
	peer := n.names[to.Name]
	mesh := peer.mesh
	n.mu.Unlock()
	if mesh == nil {
		return nil, fmt.Errorf("gossiptest: %s answers no calls", to.Name)
	}
	answer, err := mesh.Answer(ctx, t.name, kind, append([]byte(nil), body...))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", gossip.ErrRefused, err)
	}
	return answer, n.travel(ctx, peer, t.name, len(answer))
}

// travel takes size bytes from a node to another, or waits until ctx ends.
func (n *Network) travel(ctx context.Context, from *Transport, to string, size int) error {
	n.mu.Lock()
	ok := n.reaches(from, n.names[to])
	if ok {
		from.sent.Call += int64(size)
	}
	n.mu.Unlock()
	if !ok {
		<-ctx.Done()
		return ctx.Err()
	}
	<-time.After(n.opts.Latency)
	n.mu.Lock()
	ok = n.reaches(from, n.names[to])
	n.mu.Unlock()
	if !ok {
		<-ctx.Done()
		return ctx.Err()
	}
	return ctx.Err()
}
