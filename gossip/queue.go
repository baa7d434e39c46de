package gossip

import (
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Limits of broadcasts. What goes beyond is left to anti-entropy.
const (
	ownRate   = 10.0 // a second, of this node's own
	ownBurst  = 50
	passRate  = 40.0 // a second, passed on for others
	passBurst = 150
	maxQueued = 512 // of each
)

// bucket is a token bucket.
type bucket struct {
	rate, size, left float64
	at               time.Time
}

func (b *bucket) take(now time.Time) bool {
	if !b.at.IsZero() {
		b.left += b.rate * now.Sub(b.at).Seconds()
	} else {
		b.left = b.size
	}
	b.at = now
	b.left = min(b.left, b.size)
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// queue holds what is to be broadcast: this node's own before what it passes on, for each job or mark only the newest.
type queue struct {
	mu       sync.Mutex
	own      memberlist.TransmitLimitedQueue
	pass     memberlist.TransmitLimitedQueue
	ownRate  bucket
	passRate bucket
	dropped  uint64
}

func newQueue(nodes func() int, retransmit int) *queue {
	return &queue{
		own:      memberlist.TransmitLimitedQueue{NumNodes: nodes, RetransmitMult: retransmit},
		pass:     memberlist.TransmitLimitedQueue{NumNodes: nodes, RetransmitMult: retransmit},
		ownRate:  bucket{rate: ownRate, size: ownBurst},
		passRate: bucket{rate: passRate, size: passBurst},
	}
}

// broadcast is a message by name.
type broadcast struct {
	name string
	msg  []byte
}

func (b broadcast) Invalidates(memberlist.Broadcast) bool { return false }
func (b broadcast) Name() string                          { return b.name }
func (b broadcast) Message() []byte                       { return b.msg }
func (b broadcast) Finished()                             {}

// add queues a message, if the rate allows it.
func (q *queue) add(name string, msg []byte, own bool, now time.Time) {
	to, rate := &q.pass, &q.passRate
	if own {
		to, rate = &q.own, &q.ownRate
	}
	q.mu.Lock()
	ok := rate.take(now)
	if !ok {
		q.dropped++
	}
	q.mu.Unlock()
	if !ok {
		return
	}
	to.QueueBroadcast(broadcast{name, msg})
	if to.NumQueued() > maxQueued {
		to.Prune(maxQueued)
	}
}

// get fills a packet.
func (q *queue) get(overhead, limit int) [][]byte {
	msgs := q.own.GetBroadcasts(overhead, limit)
	for _, m := range msgs {
		limit -= overhead + len(m)
	}
	if limit > overhead {
		msgs = append(msgs, q.pass.GetBroadcasts(overhead, limit)...)
	}
	return msgs
}

func (q *queue) stats() (queued int, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.own.NumQueued() + q.pass.NumQueued(), q.dropped
}
