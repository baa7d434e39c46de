// Package doctor examines a node: whether what the agent, its jobs and their checkpoints need is there and works. Each check is an Entry of
// Checks; what it finds names what is wrong, why, and what helps. A Probe looks at one thing within a bound of time, and changes nothing. The
// probes of an examination run at once; their findings come in the probes' order.
package doctor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"qosctl/agent/api"
)

// Entry is a check as docs/doctor.md has it.
type Entry struct {
	Name    string // as docker.answers
	Looks   string // what it looks at
	Warning string // when it warns; "": never
	Fault   string // when it finds a fault; "": never
	Remedy  string // what helps most often
}

func (e Entry) ok(of, format string, args ...any) api.Check {
	return api.Check{Name: e.Name, Of: of, Level: api.LevelOK, OK: true, Text: fmt.Sprintf(format, args...)}
}

func (e Entry) skip(of, why string) api.Check {
	return api.Check{Name: e.Name, Of: of, Level: api.LevelSkipped, OK: true, Text: why}
}

// warn and fault take what is wrong, why, and what helps; "": what the entry says.
func (e Entry) warn(of, text string, cause error, remedy string) api.Check {
	return e.bad(api.LevelWarning, of, text, cause, remedy)
}

func (e Entry) fault(of, text string, cause error, remedy string) api.Check {
	return e.bad(api.LevelFault, of, text, cause, remedy)
}

func (e Entry) bad(level api.Level, of, text string, cause error, remedy string) api.Check {
	c := api.Check{Name: e.Name, Of: of, Level: level, Text: text, Remedy: remedy}
	if cause != nil {
		c.Cause = cause.Error()
	}
	if remedy == "" {
		c.Remedy = e.Remedy
	}
	return c
}

// Probe is one look.
type Probe struct {
	Entry Entry // of what is said if the look comes to no end
	Of    string
	Look  func(ctx context.Context) []api.Check
}

// Skip is a probe of what is not looked at.
func Skip(e Entry, why string) Probe {
	return Probe{Entry: e, Look: func(context.Context) []api.Check { return []api.Check{e.skip("", why)} }}
}

const (
	// Within bounds an examination.
	Within = 10 * time.Second
	// grace is what a probe has to come back after its time.
	grace = time.Second
)

// Examiner runs probes. A look that the kernel does not give back (a dead NFS server's directory) is left alone, and not begun again before
// it has ended. The zero Examiner is ready.
type Examiner struct {
	Within time.Duration // of an examination; 0: Within

	mu   sync.Mutex
	busy map[string]time.Time // looks that have not ended, and since when
	wg   sync.WaitGroup
}

// Wait returns when all looks have ended.
func (x *Examiner) Wait() { x.wg.Wait() }

// Run looks with all probes at once, and returns their findings in order.
func (x *Examiner) Run(ctx context.Context, probes []Probe) []api.Check {
	within := x.Within
	if within == 0 {
		within = Within
	}
	late, stopLate := context.WithTimeout(ctx, within+grace)
	defer stopLate()
	ctx, stop := context.WithTimeout(ctx, within)
	defer stop()
	answers := make([]chan []api.Check, len(probes))
	for i, p := range probes {
		answers[i] = make(chan []api.Check, 1)
		x.begin(ctx, p, answers[i])
	}
	var all []api.Check
	for i, p := range probes {
		list, ended := await(late, answers[i])
		if !ended {
			list = []api.Check{p.Entry.fault(p.Of, "it was looked at for "+within.String()+" and more, without an end", late.Err(), "")}
		}
		all = append(all, list...)
	}
	return all
}

// await waits for a probe's findings. Those that are there count, however late it is: another probe may have been waited for.
func await(late context.Context, answer <-chan []api.Check) (list []api.Check, ended bool) {
	select {
	case list = <-answer:
		return list, true
	case <-late.Done():
	}
	select {
	case list = <-answer:
		return list, true
	default:
		return nil, false
	}
}

// begin starts a look, unless the same one of an earlier examination has not ended.
func (x *Examiner) begin(ctx context.Context, p Probe, answer chan<- []api.Check) {
	key := p.Entry.Name + " " + p.Of
	x.mu.Lock()
	defer x.mu.Unlock()
	if since, hangs := x.busy[key]; hangs {
		answer <- []api.Check{p.Entry.fault(p.Of, fmt.Sprintf("a look that was begun %s ago has not ended yet", time.Since(since).Round(time.Second)), nil, "")}
		return
	}
	if x.busy == nil {
		x.busy = map[string]time.Time{}
	}
	begin := time.Now()
	x.busy[key] = begin
	x.wg.Go(func() {
		list := p.Look(ctx)
		took := time.Since(begin).Seconds()
		for i := range list {
			if list[i].Took == 0 {
				list[i].Took = took
			}
		}
		x.mu.Lock()
		delete(x.busy, key)
		x.mu.Unlock()
		answer <- list
	})
}
