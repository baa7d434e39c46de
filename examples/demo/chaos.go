package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

// chaos kills the agent, and the agent alone, at moments that are random but the same for the same seed.
type chaos struct {
	dev     *dev
	moments []time.Duration // since submission, ascending; those still to come
	killed  int
	alive   bool // the agent has answered since the last kill
}

func newChaos(o options, d *dev) *chaos {
	c := &chaos{dev: d}
	random := rand.New(rand.NewPCG(o.seed, 0))
	from, to := o.seconds/50, o.seconds*3/4 // later, jobs that ran ahead are done
	for range o.chaos {
		c.moments = append(c.moments, from+time.Duration(random.Int64N(int64(to-from))))
	}
	slices.Sort(c.moments)
	return c
}

// answered says that there is an agent that is at work.
func (c *chaos) answered() { c.alive = true }

// step kills once if a moment has come and there is an agent; else the kill waits for one. Every other kill takes an agent that is
// still finding its way, if there is one; the others wait until it is at work. It says what it did.
func (c *chaos) step(elapsed time.Duration) string {
	if len(c.moments) == 0 || elapsed < c.moments[0] || !c.alive && c.killed%2 == 0 {
		return ""
	}
	pid := c.dev.agent()
	if pid == 0 || syscall.Kill(pid, syscall.SIGKILL) != nil {
		return ""
	}
	c.moments = c.moments[1:]
	c.killed++
	c.alive = false
	return fmt.Sprintf("kill -9 of the agent, process %d (%d)", pid, c.killed)
}

// left is how many kills are still to come.
func (c *chaos) left() int { return len(c.moments) }
