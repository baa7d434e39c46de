package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Bounds of the pauses between attempts to reach the master.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 2 * time.Second
	flushTime  = 2 * time.Second // for the last updates, at the node's end
)

// post notes an update for the master. n.mu is held.
func (n *Node) post(framework string, st Status) {
	n.outbox = append(n.outbox, Update{UUID: NewUUID(), Framework: framework, Status: st})
	poke(n.changed)
}

// follower is a node's side of its conversation with its master.
type follower struct {
	n       *Node
	to      Master
	lasting bool
	life    string
	number  uint64
	master  string // its life
	seen    uint64
	down    bool // told to shut down
}

// Follow obeys a master until ctx ends, and then goes on for a moment, so that the last updates reach it. Lasting says that the node lives on when
// the master's process ends.
func (n *Node) Follow(ctx context.Context, to Master, lasting bool) {
	f := &follower{n: n, to: to, lasting: lasting, life: NewUUID()}
	for pause := firstPause; ctx.Err() == nil; {
		err := f.exchange(ctx, true)
		if err == nil || ctx.Err() != nil {
			pause = firstPause
			continue
		}
		n.log.Warn("master does not answer", "err", err)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		pause = min(2*pause, lastPause)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
	defer cancel()
	for n.unsent() && last.Err() == nil {
		if f.exchange(last, false) != nil {
			return // what is left, the master finds out by itself
		}
	}
}

func (n *Node) unsent() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.outbox) > 0
}

// exchange reports once and obeys. With interrupt it is broken off when there is news: it is told at once, by the next one.
func (f *follower) exchange(ctx context.Context, interrupt bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	report := f.report()
	answered, broken := make(chan struct{}), false
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-answered:
		case <-f.n.news(interrupt):
			broken = true
			cancel()
		}
	})
	orders, err := f.to.Exchange(ctx, report)
	close(answered)
	wg.Wait()
	if err != nil {
		if broken {
			return nil
		}
		return err
	}
	f.obey(orders) //nolint:contextcheck // a task outlives the request that ordered it
	return nil
}

// news is ready when something is to be told.
func (n *Node) news(wanted bool) <-chan struct{} {
	if !wanted {
		return nil
	}
	return n.changed
}

// report is the node as it stands.
func (f *follower) report() Report {
	n := f.n
	f.number++
	r := Report{Protocol: Protocol, Life: f.life, Number: f.number, Master: f.master, Seen: f.seen}
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.changed: // it is in this report
	default:
	}
	r.Agent = AgentInfo{
		ID: n.id, Hostname: n.o.Hostname, Address: n.o.Address, Attributes: maps.Clone(n.o.Attributes), CPUs: n.o.CPUs, MemMiB: n.o.MemMiB,
		DiskMiB: n.o.DiskMiB, FirstPort: n.o.FirstPort, Lasting: f.lasting,
	}
	for _, id := range slices.Sorted(maps.Keys(n.tasks)) {
		t := n.tasks[id]
		r.Tasks = append(r.Tasks, Held{
			ID: id, Framework: t.Framework, State: t.last(), CPUs: t.CPUs, MemMiB: t.MemMiB, DiskMiB: t.DiskMiB, Ports: slices.Clone(t.Ports),
		})
	}
	r.Updates = slices.Clone(n.outbox[:min(len(n.outbox), maxUpdates)])
	return r
}

// obey carries orders out, each once.
func (f *follower) obey(o Orders) {
	n := f.n
	if o.Master != f.master {
		f.master, f.seen = o.Master, 0
	}
	n.mu.Lock()
	n.outbox = slices.DeleteFunc(n.outbox, func(u Update) bool { return slices.Contains(o.Acks, u.UUID) })
	n.mu.Unlock()
	for _, order := range o.Orders {
		if order.Number <= f.seen {
			continue
		}
		f.seen = order.Number
		switch {
		case order.Launch != nil:
			n.launchOrder(*order.Launch)
		case order.Kill != nil:
			n.Kill(order.Kill.Framework, order.Kill.Task)
		case order.Drain != nil:
			n.Drain(*order.Drain)
		case order.Lose != "":
			if err := n.Lose(order.Lose); err != nil {
				n.log.Warn("order is not carried out", "err", err)
			}
		}
	}
	if o.Shutdown != "" && !f.down {
		n.log.Warn("told to shut down: ending all tasks", "message", o.Shutdown)
		n.endAll(shutdownGrace)
	}
	f.down = o.Shutdown != ""
}

// launchOrder launches a task; where that can't be, the framework hears of it.
func (n *Node) launchOrder(t Task) {
	err := n.Launch(t)
	if err == nil {
		return
	}
	n.log.Warn("task is not launched", "task", t.ID, "err", err)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.tasks[t.ID] == nil { // else it is there already
		n.post(t.Framework, Status{TaskID: t.ID, State: Lost, Message: fmt.Sprintf("Task dropped: %v", err), At: time.Now()})
	}
}

// Drain ends all tasks, as an agent does that is told to drain: each within its own grace, or the drain's if that is shorter, or the task has
// none of its own. An agent without tasks is drained already.
func (n *Node) Drain(c DrainConfig) {
	n.mu.Lock()
	if len(n.tasks) == 0 {
		n.mu.Unlock()
		return
	}
	n.drain, n.drainStart = &c, time.Now()
	for _, t := range n.tasks {
		if c.MaxGrace != nil {
			t.limit = new(time.Duration(c.MaxGrace.Nanoseconds))
		}
		poke(t.kill)
	}
	n.mu.Unlock()
}

// endAll ends all tasks within a grace.
func (n *Node) endAll(grace time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.tasks {
		t.limit = new(grace)
		poke(t.kill)
	}
}
