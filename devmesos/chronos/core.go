package chronos

import (
	"fmt"
	"slices"
	"time"

	"qosctl/devmesos/node"
)

// Cluster is where tasks run.
type Cluster interface {
	Offers() []node.Offer
	Launch(agentID string, t node.Task) error
	Kill(framework, taskID string)
}

const (
	frameworkName = "chronos"
	graphDelay    = 300 * time.Millisecond // until the main loop has noticed a new job
	offerDelay    = 200 * time.Millisecond // until an offer comes for what was queued
	offerInterval = time.Second            // between offers while something waits for room
	maxSleep      = 60 * time.Second       // of the main loop
	failureRetry  = 60 * time.Second       // --failure_retry
)

// Core is Chronos' state. It is not safe for concurrent use, keeps no clock, and does nothing by itself: after each change, and when
// Next's moment has come, its owner calls Tick.
type Core struct {
	cluster Cluster
	old     bool            // as 2.x
	store   map[string]*Job // what is persisted
	order   []string        // of the store
	graph   map[string]bool // what the main loop has seen: only that can be found, started, killed
	queue   []queued        // keyed by job name, at most one of each
	running map[string]*run // by task ID
	retries []queued
	done    map[string]map[string]int // child → parent → successes not yet used up

	nextLoop, nextOffer time.Time
	changed             bool // the store, since the last snapshot
}

type queued struct {
	job     string
	due     time.Time
	attempt int
}

type run struct {
	job     string
	attempt int
	state   node.State
	lasting bool // the task outlives the scheduler's process
}

// NewCore makes an empty state.
func NewCore(c Cluster, old bool) *Core {
	return &Core{
		cluster: c, old: old, store: map[string]*Job{}, graph: map[string]bool{}, running: map[string]*run{}, done: map[string]map[string]int{},
	}
}

// Tick does all that is due.
func (c *Core) Tick(now time.Time) {
	if !now.Before(c.nextLoop) {
		c.mainLoop(now)
	}
	c.retries = slices.DeleteFunc(c.retries, func(q queued) bool {
		if now.Before(q.due) {
			return false
		}
		if c.graph[q.job] {
			c.enqueue(q, now)
		}
		return true
	})
	if len(c.queue) > 0 && !now.Before(c.nextOffer) {
		c.offer(now)
	}
}

// Next is when Tick has something to do.
func (c *Core) Next() time.Time {
	next := c.nextLoop
	for _, r := range c.retries {
		if r.due.Before(next) {
			next = r.due
		}
	}
	if len(c.queue) > 0 && c.nextOffer.Before(next) {
		next = c.nextOffer
	}
	return next
}

// mainLoop takes new jobs into the graph, queues what is due, and sleeps until the next start, at most a minute.
func (c *Core) mainLoop(now time.Time) {
	c.nextLoop = now.Add(maxSleep)
	for _, name := range slices.Clone(c.order) {
		if c.graph[name] {
			continue
		}
		if j := c.store[name]; slices.ContainsFunc(j.Parents, func(p string) bool { return c.store[p] == nil }) {
			c.drop(name) // a parent that nobody knows: only the log of the real one says so
			continue
		}
		c.graph[name] = true
	}
	for _, name := range c.order {
		j := c.store[name]
		if j.Disabled || !j.scheduled() {
			continue
		}
		s, ok := parseSchedule(j.Schedule, j.zone(), now)
		if !ok || s.repeat == 0 {
			continue
		}
		if s.start.After(now) {
			c.wakeAt(s.start)
			continue
		}
		c.wakeAt(now.Add(time.Second)) // the schedule moves on with the launch only: look again
		c.enqueue(queued{job: name, due: now}, now)
	}
}

func (c *Core) wakeAt(t time.Time) {
	if t.Before(c.nextLoop) {
		c.nextLoop = t
	}
}

func (j *Job) zone() string {
	if j.ScheduleTimeZone == nil {
		return ""
	}
	return *j.ScheduleTimeZone
}

// enqueue adds a run, unless one of the same job waits already.
func (c *Core) enqueue(q queued, now time.Time) {
	if slices.ContainsFunc(c.queue, func(x queued) bool { return x.job == q.job }) {
		return
	}
	if len(c.queue) == 0 || c.nextOffer.After(now.Add(offerDelay)) {
		c.nextOffer = now.Add(offerDelay)
	}
	if j := c.store[q.job]; j != nil && j.HighPriority {
		c.queue = slices.Insert(c.queue, 0, q)
		return
	}
	c.queue = append(c.queue, q)
}

// offer launches what fits. What is disabled or still runs is thrown away, not put back.
func (c *Core) offer(now time.Time) {
	c.nextOffer = now.Add(offerInterval)
	var waiting []queued
	queue := c.queue
	c.queue = nil
	for _, q := range queue {
		j := c.store[q.job]
		switch {
		case j == nil || j.Disabled:
		case !j.Concurrent && c.runningOf(q.job) > 0:
		case !c.launch(j, q, now):
			waiting = append(waiting, q)
		}
	}
	c.queue = append(waiting, c.queue...)
}

func (c *Core) runningOf(job string) int {
	n := 0
	for _, r := range c.running {
		if r.job == job {
			n++
		}
	}
	return n
}

// launch starts a run with the job's resources as they are now, on the first offer that it fits into.
func (c *Core) launch(j *Job, q queued, now time.Time) bool {
	const epsilon = 0.0005
	for _, o := range c.cluster.Offers() {
		if j.CPUs > o.CPUs+epsilon || j.Mem > o.MemMiB+epsilon || j.Disk > o.DiskMiB+epsilon || !meets(j.Constraints, o) {
			continue
		}
		if c.launchOn(j, q, o, now) {
			return true
		} // else somebody else was faster
	}
	return false
}

// launchOn starts a run on an agent, and moves the job's schedule on, whatever the run's reason.
func (c *Core) launchOn(j *Job, q queued, offer node.Offer, now time.Time) bool {
	id := taskID(j, q)
	for c.running[id] != nil {
		q.due = q.due.Add(time.Millisecond)
		id = taskID(j, q)
	}
	if c.cluster.Launch(offer.AgentID, task(j, q, id, offer.Hostname)) != nil {
		return false
	}
	c.running[id] = &run{job: j.Name, attempt: q.attempt, state: node.Staging, lasting: offer.Lasting}
	c.changed = true
	if s, ok := parseSchedule(j.Schedule, j.zone(), now); ok && j.scheduled() {
		if next, moved := s.launched(now); moved {
			j.Schedule = next.String()
			if next.start.After(now) {
				c.wakeAt(next.start)
			}
		}
	}
	return true
}

// drop forgets a job and what waits of it.
func (c *Core) drop(name string) {
	delete(c.store, name)
	delete(c.graph, name)
	delete(c.done, name)
	same := func(q queued) bool { return q.job == name }
	c.order = slices.DeleteFunc(c.order, func(n string) bool { return n == name })
	c.queue = slices.DeleteFunc(c.queue, same)
	c.retries = slices.DeleteFunc(c.retries, same)
	c.changed = true
}

// state is what the summary says of a job.
func (c *Core) state(name string) string {
	if n := c.runningOf(name); n > 0 {
		return fmt.Sprintf("%d running", n)
	}
	if slices.ContainsFunc(c.queue, func(q queued) bool { return q.job == name }) {
		return "queued"
	}
	return "idle"
}
