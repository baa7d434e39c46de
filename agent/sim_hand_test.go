package agent

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// hand is what an agent reaches the world by: the one of an agent that was killed moves nothing any more.
type hand struct {
	n    *simNode
	life int
}

var errKilled = errors.New("sim: the agent was killed")

// alive says whether the agent lives and goes on. The caller holds mu.
func (h hand) alive() bool { return h.n.life == h.life && h.n.up }

// pass waits until the agent may act: for as long as what it does takes, and until it is not paused.
func (h hand) pass(ctx context.Context, low, high time.Duration) error {
	w := h.n.w
	if !pause(ctx, w.between(low, high, fmt.Sprint(h.n.name, low, high))) {
		return ctx.Err()
	}
	for {
		w.mu.Lock()
		wait, alive := h.n.paused, h.alive()
		w.mu.Unlock()
		switch {
		case !alive:
			return errKilled
		case wait == nil:
			return ctx.Err()
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pause stops the node's agent as SIGSTOP does.
func (n *simNode) pause() {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if n.paused == nil && n.agent != nil {
		n.w.say("%s: agent paused", n.name)
		n.paused = make(chan struct{})
		n.watched()
		n.w.part()
	}
}

// resume lets it go on.
func (n *simNode) resume() {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if n.paused != nil {
		n.w.say("%s: agent goes on", n.name)
		close(n.paused)
		n.paused = nil
		n.watched()
		n.w.part()
	}
}

// watched notes whether an agent reads the node's counters. The caller holds mu.
func (n *simNode) watched() {
	switch {
	case n.agent != nil && n.paused == nil:
		n.blind = time.Time{}
	case n.blind.IsZero():
		n.blind = time.Now()
	}
}
