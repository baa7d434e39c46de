package sim

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"qosctl/qos"
)

// start is the moment 0 of a simulation.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func moment(t float64) time.Time { return start.Add(time.Duration(math.Round(t * 1e9))) }

func secondsOf(t time.Time) float64 { return t.Sub(start).Seconds() }

// phase is where a job is.
type phase int

const (
	coming    phase = iota // has not been submitted
	pending                // waits for an offer
	deploying              // was launched; its request is sold
	running                //
	between                // two warm iterations
	ended                  //
)

const (
	never     = math.MaxFloat64
	kickAfter = 0.1  // seconds from an event to the look that it causes, as in the agent
	kickLeast = 1.0  // seconds between two looks
	steadyAt  = 30.0 // seconds without an event after which a node is in its steady state
)

// job is a task under way.
type job struct {
	*task
	phase    phase
	node     *node
	until    float64 // end of a deployment, of a gap or of a freeze
	frozen   bool
	run      int
	done     float64 // share of the present run
	speed    float64 // share of it per second
	usage    float64 // CPUs
	saved    float64 // share of the run that a checkpoint holds
	nextSave float64
	began    float64 // when the present run started
	restart  bool    // its next launch goes on with the run that was interrupted
	moving   bool    // its next launch is a restart: from a crash, or for a move
	hint     string  // node that it is to be launched on; "": any

	request, alloc, need float64
	memory               qos.Memory
	lastChange           float64 // negative: never
	placed               float64
	granted, held        float64 // ∫ allocation dt and seconds, of the present run
	lookUsed, lookAt     float64 // CPU seconds since the last look
	lookThrottled        float64 // seconds
	spent                float64 // CPU seconds of the present run, lost work included
	decided              qos.Decision
	late                 bool

	out Outcome
}

// node is a node under way.
type node struct {
	name     string
	cpus     float64
	jobs     []*job // that hold a part of it
	others   float64
	switchAt float64 // when the others come or go; never: there are none
	nextLook float64
	lastLook float64
	lookBusy float64 // CPU seconds used since the last look
	event    float64 // when something came, went or became late
	dirty    bool    // rates are to be worked out anew
	room     qos.Room
}

// sold is the CPUs that Mesos has sold.
func (n *node) sold() float64 {
	sum := n.others
	for _, j := range n.jobs {
		sum += j.request
	}
	return sum
}

// cluster is a simulation under way.
type cluster struct {
	*Scenario
	contender
	now     float64
	horizon float64
	nodes   []*node
	jobs    []*job
	rng     *rand.Rand // of what depends on the policy: random placement, restarts
	others  *rand.Rand // of the background
	offers  float64    // when the next round of offers is made
	trace   *Trace     // nil: none is wanted
}

// contender is a policy as it takes part.
type contender struct {
	name     string
	policy   qos.Policy
	truth    bool // it is told the true durations
	hints    bool // it places jobs by gossiped headroom
	boundary bool // it acts when a run has ended, by a restart
	most     bool // gives everybody all there is: how feasible is told
}

func newCluster(s *Scenario, c contender, seed uint64, tasks []*task) *cluster {
	k := &cluster{
		Scenario: s, contender: c,
		rng:    rand.New(rand.NewPCG(seed, 0x9e37)),
		others: rand.New(rand.NewPCG(seed, 0xb06d)),
	}
	for i := range s.Nodes.Count {
		n := &node{name: nodeName(i), cpus: s.Nodes.CPUs, switchAt: never, event: 0}
		n.nextLook = float64(s.Period) * k.rng.Float64()
		n.lastLook = n.nextLook - float64(s.Period)
		n.room = qos.Room{Node: n.name, CPUs: n.cpus}
		if i < s.Background.Nodes {
			n.switchAt = k.others.ExpFloat64() * float64(s.Background.Off)
		}
		k.nodes = append(k.nodes, n)
	}
	for _, t := range tasks {
		j := &job{task: t, request: t.spec.CPUs, lastChange: -1, placed: -1}
		j.alloc = j.request
		j.out = Outcome{Job: t.spec.Name}
		k.jobs = append(k.jobs, j)
		k.horizon = max(k.horizon, 4*t.deadline-3*t.arrive)
	}
	if s.Horizon > 0 {
		k.horizon = float64(s.Horizon)
	}
	return k
}

// simulate runs to the end, and returns what became of each job.
func (k *cluster) simulate(ctx context.Context) ([]Outcome, error) {
	for steps := 0; k.now < k.horizon && !k.finished(); steps++ {
		if steps%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		k.settleRates()
		k.advance(k.nextEvent())
		k.fire()
	}
	out := make([]Outcome, 0, len(k.jobs))
	for _, j := range k.jobs {
		if j.phase != ended {
			j.out.Late = k.horizon - j.deadline
			j.out.Unfinished = true
		}
		out = append(out, j.out)
	}
	return out, nil
}

func (k *cluster) finished() bool {
	for _, j := range k.jobs {
		if j.phase != ended {
			return false
		}
	}
	return true
}

// nextEvent is when something happens next.
func (k *cluster) nextEvent() float64 {
	next := k.horizon
	waits, active := false, false
	for _, j := range k.jobs {
		switch j.phase {
		case coming:
			next = min(next, j.arrive)
		case pending:
			waits = true
		case deploying, between:
			next = min(next, j.until)
		case running:
			active = true
			next = min(next, k.jobEvent(j))
		}
		if j.phase != ended && j.phase != coming && !j.late {
			next = min(next, j.deadline)
		}
		active = active || j.phase == between
	}
	if waits {
		next = min(next, max(k.offers, k.now))
	}
	for _, n := range k.nodes {
		next = min(next, n.switchAt)
		if active && len(n.jobs) > 0 {
			next = min(next, n.nextLook)
		}
	}
	return max(next, k.now)
}

// jobEvent is the next event of a running job: the end of its run, its crash, its checkpoint, or the end of a freeze.
func (k *cluster) jobEvent(j *job) float64 {
	if j.frozen {
		return j.until
	}
	next := j.nextSave
	if j.speed > 0 {
		next = min(next, k.now+(1-j.done)/j.speed)
		if at := j.crashAt - float64(j.run); at >= j.done && at < 1 {
			next = min(next, k.now+(at-j.done)/j.speed)
		}
	}
	return next
}

// advance lets time pass at the present rates.
func (k *cluster) advance(to float64) {
	dt := to - k.now
	k.now = to
	if dt <= 0 {
		return
	}
	for _, n := range k.nodes {
		if len(n.jobs) == 0 {
			continue
		}
		n.lookBusy += min(n.others, n.cpus) * dt
		steady := !k.unsteady(n, to)
		for _, j := range n.jobs {
			if j.phase != running && j.phase != between {
				continue
			}
			used := j.usage * dt
			j.done += j.speed * dt
			j.spent += used
			j.lookUsed += used
			j.lookThrottled += k.throttled(j) * dt
			n.lookBusy += used
			j.out.Used += used
			j.out.Allocated += j.alloc * dt
			j.out.Hours += dt / 3600
			if steady {
				j.out.SteadyHours += dt / 3600
			}
			if j.phase == running {
				j.granted += j.alloc * dt
				j.held += dt
			}
		}
	}
}

// unsteady says whether something has come, gone or become late on a node a moment ago, or whether a late job is on it.
func (k *cluster) unsteady(n *node, now float64) bool {
	if now-n.event < steadyAt {
		return true
	}
	return slices.ContainsFunc(n.jobs, func(j *job) bool { return j.late })
}

// fire does what is due.
func (k *cluster) fire() {
	const soon = 1e-9
	due := k.now + soon
	for _, j := range k.jobs {
		if j.phase == coming && j.arrive <= due {
			k.submit(j)
		}
		if j.phase != coming && j.phase != ended && !j.late && j.deadline <= due {
			j.late = true
			k.touch(j.node)
		}
		switch j.phase {
		case deploying:
			if j.until <= due {
				k.begin(j)
			}
		case between:
			if j.until <= due {
				k.nextRun(j)
			}
		case running:
			k.fireRunning(j, due)
		}
	}
	for _, n := range k.nodes {
		if n.switchAt <= due {
			k.switchOthers(n)
		}
		if n.nextLook <= due {
			k.look(n)
		}
	}
	if k.offers <= due {
		k.offer()
		k.offers = k.now + float64(k.Offers)
	}
}

// fireRunning does what is due for a running job.
func (k *cluster) fireRunning(j *job, due float64) {
	switch at := j.crashAt - float64(j.run); {
	case j.frozen && j.until <= due:
		j.frozen, j.node.dirty = false, true
	case j.done >= 1-1e-9:
		k.endRun(j)
	case at >= 0 && j.done >= at-1e-9:
		k.crash(j)
	case !j.frozen && j.nextSave <= due:
		j.saved, j.nextSave = j.done, k.now+float64(k.Checkpoint.Every)
		j.frozen, j.until, j.node.dirty = true, k.now+float64(k.Checkpoint.Freeze), true
	}
}

// touch notes that something has changed on a node: its agent looks soon.
func (k *cluster) touch(n *node) {
	if n == nil {
		return
	}
	n.dirty = true
	n.event = k.now
	n.nextLook = min(n.nextLook, max(k.now+kickAfter, n.lastLook+kickLeast))
}

// switchOthers lets the background come or go.
func (k *cluster) switchOthers(n *node) {
	if n.others > 0 {
		n.others = 0
		n.switchAt = k.now + k.others.ExpFloat64()*float64(k.Background.Off)
	} else {
		n.others = min(k.Background.CPUs, max(n.cpus-n.sold(), 0)) // Mesos sells only what is there
		n.switchAt = k.now + k.others.ExpFloat64()*float64(k.Background.On)
	}
	k.touch(n)
}

// settleRates works out how fast each job goes.
func (k *cluster) settleRates() {
	for _, n := range k.nodes {
		if n.dirty {
			k.rates(n)
			n.dirty = false
		}
	}
}
