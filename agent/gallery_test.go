package agent

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"qosctl/cgroup"
	"qosctl/gossip"
	"qosctl/qos"
)

// gallery is an agent that does not run, with jobs whose life was played under the real policy: what the page is looked at with.
type gallery struct {
	*Agent

	t    *testing.T
	rng  *rand.Rand
	now  time.Time
	here []*exhibit
}

// exhibit is a job and what the policy does not know of it.
type exhibit struct {
	*job
	work   float64 // CPU seconds that its present run takes
	moves  time.Time
	begins time.Time
	node   string // that it begins on
}

const galleryStep = 5 * time.Second

func newGallery(t *testing.T, cpus float64) *gallery {
	t.Helper()
	dir := t.TempDir()
	cfg := Default()
	cfg.Node, cfg.Listen, cfg.Mesos.URL, cfg.Engine.Docker = "node-1", "127.0.0.1:30000", "", ""
	cfg.DataDir, cfg.RunDir, cfg.Control.CPUs = filepath.Join(dir, "data"), filepath.Join(dir, "run"), cpus
	cfg.Cgroup.Parent = fmt.Sprintf("/qosctl-gallery-%d", os.Getpid())
	a, err := New(Options{Config: cfg, Version: "test"})
	if err != nil {
		t.Skipf("needs write access to cgroups (run as root): %v", err)
	}
	t.Cleanup(func() {
		if err := a.close(); err != nil {
			t.Error(err)
		}
	})
	return &gallery{Agent: a, t: t, rng: rand.New(rand.NewPCG(1, 2)), now: time.Now().Add(-26 * time.Minute)}
}

// add hands a job in that begins after so many seconds.
func (g *gallery) add(n int, name string, f qos.Framework, q qos.QoS, iterations int, cpus float64, after time.Duration) *exhibit {
	spec := qos.Spec{
		ID: fmt.Sprintf("%08x-0000-4000-8000-%012x", n, n), Name: name, Framework: f, CPUs: cpus, QoS: q, Iterations: iterations, Submitted: g.now.Add(after - 6*time.Second),
	}
	if f == qos.Chronos {
		spec.Tenant = "physics"
	}
	x := &exhibit{job: newJob(row{Record: qos.Record{Spec: spec, Status: qos.Status{Phase: qos.PhaseSubmitted, Since: spec.Submitted}}}), begins: g.now.Add(after), node: g.node}
	g.jobs.add(x.job)
	g.here = append(g.here, x)
	return x
}

// start begins the job's next run on a node.
func (g *gallery) start(x *exhibit, node string) {
	st := x.status()
	index := 1
	if st.Execution != nil {
		index = st.Execution.Index + 1
	}
	if st.Started.IsZero() {
		st.Started = g.now
	}
	if st.Phase == qos.PhaseSubmitted {
		g.enter(x, qos.PhasePending, string(x.spec().Framework)+" has it")
	}
	allocation := x.spec().CPUs
	if st.Execution != nil {
		allocation = st.Execution.Allocation
	}
	st.Owner = node
	st.Epoch++
	st.Execution = &qos.Execution{Index: index, Task: "t", Started: g.now, Deadline: x.spec().QoS.Deadline.From(st.Started), Allocation: allocation}
	st.Execution.Account.StartIncarnation(qos.Entry{Node: node, Container: containerID(x.spec().ID, index, 1)})
	x.live = &live{since: g.now}
	x.work = x.spec().QoS.Duration * (0.93 + 0.2*g.rng.Float64())
	g.enter(x, qos.PhaseRunning, fmt.Sprintf("run %d started for task t.%d", index, index))
}

func (g *gallery) enter(x *exhibit, p qos.Phase, why string) {
	g.t.Helper()
	if err := x.enter(p, g.now, why); err != nil {
		g.t.Fatal(err)
	}
	x.chronicle(g.now)
}

// step lets the jobs run for a while, and has the policy decide.
func (g *gallery) step() {
	g.now = g.now.Add(galleryStep)
	n := qos.NodeView{Now: g.now, CPUs: g.cpus, Borrow: true}
	for _, x := range g.here {
		if x.status().Phase == qos.PhaseSubmitted && !g.now.Before(x.begins) {
			g.start(x, x.node)
		}
		if !x.moves.IsZero() && !g.now.Before(x.moves) {
			g.move(x)
		}
		if x.live != nil {
			g.spend(x)
		}
		if x.live != nil {
			n.Jobs = append(n.Jobs, g.seen(x))
		}
	}
	for i, d := range g.policies["deadline"].Decide(n) {
		j := g.jobs.get(n.Jobs[i].ID)
		j.row.Local.Memory = d.Memory
		j.remember(d, maxDecisions)
		if e := j.status().Execution; d.To != d.From && g.now.Sub(j.row.Local.Changed) > 10*time.Second {
			e.Allocation, j.row.Local.Changed = d.To, g.now
			e.Clock.Resizes++
			j.note(g.now, "resize", "%.2f → %.2f CPUs: %s (%s)", d.From, d.To, d.Reason, d.Rule)
		}
		g.observe(j, d, g.now)
	}
}

// seen is what the policy is told of a job, whose counters nobody reads.
func (g *gallery) seen(x *exhibit) qos.JobView {
	p := x.pulse
	x.live.reader = &cgroup.Reader{}
	v, ok := g.view(x.job)
	if x.live.reader, x.pulse = nil, p; !ok {
		g.t.Fatalf("nothing is to be decided about %s", x.spec().Name)
	}
	v.Usage, v.Throttled = p.usage, p.throttled
	return v
}

// spend gives a job the CPU time that its quota allows, and ends its run when that is done.
func (g *gallery) spend(x *exhibit) {
	st := x.status()
	e := st.Execution
	x.live.rate = e.Allocation * (0.94 + 0.06*g.rng.Float64())
	x.pulse.usage, x.pulse.throttled = x.live.rate, 0.8+0.15*g.rng.Float64()
	g.integrate(x.job, g.now)
	entry := e.Account.Entries[e.Account.Live]
	entry.Own += time.Duration(x.live.rate * float64(galleryStep))
	e.Account.Entries[e.Account.Live] = entry
	if e.Account.Progress().Seconds() < x.work {
		return
	}
	st.AppendRun(x.spec().Framework, qos.Run{
		Index: e.Index, Started: e.Started, Ended: g.now, CPU: e.Account.Consumed().Seconds(), Outcome: qos.OutcomeOf(x.spec().Framework, 0, g.now, e.Deadline),
		MeanCPUs: e.Clock.CPUSeconds / e.Clock.Seconds, MaxCPUs: e.Clock.Max, Resizes: e.Clock.Resizes, Parts: e.Account.Live.N,
	})
	if x.spec().Framework == qos.Marathon || st.Tally.Succeeded >= x.spec().Iterations {
		x.live = nil
		if x.spec().Framework == qos.Chronos {
			st.Tally.Met++
		}
		g.enter(x, qos.PhaseEnded, "done")
		g.enter(x, qos.PhaseCompleted, "all is done")
		return
	}
	g.enter(x, qos.PhaseEnded, fmt.Sprintf("iteration %d exited 0", e.Index))
	g.start(x, st.Owner)
}

// move suspends a job, and has it go on on another node half a minute later.
func (g *gallery) move(x *exhibit) {
	st := x.status()
	if x.live != nil {
		x.live, x.moves = nil, g.now.Add(35*time.Second)
		x.note(g.now, "checkpoint", "1: %.2f s of CPU time, 48.2 MiB, frozen for 212ms", st.Execution.Account.Progress().Seconds())
		g.enter(x, qos.PhaseSuspended, "node-2 has no room for what it needs")
		return
	}
	st.Owner = g.node
	st.Epoch++
	progress := st.Execution.Account.Progress()
	st.Execution.Account.Next()
	st.Execution.Account.StartIncarnation(qos.Entry{Node: g.node, Container: containerID(x.spec().ID, 1, 2), Base: progress})
	x.live, x.moves = &live{since: g.now}, time.Time{}
	g.enter(x, qos.PhaseRunning, "run 1 goes on from checkpoint 1 for task t.2")
}

// galleryMesh is a cluster of nodes that are only looked at.
type galleryMesh struct {
	mesh    // nil: nothing else is asked of it
	members []gossip.Member
}

func (m galleryMesh) Members() []gossip.Member { return slices.Clone(m.members) }
func (m galleryMesh) All() []qos.Record        { return nil }
func (m galleryMesh) Settled() bool            { return true }
func (m galleryMesh) Quorate() bool            { return true }
func (m galleryMesh) Close() error             { return nil }

func (m galleryMesh) Marks() map[string]string {
	return map[string]string{drainKey + "node-4": "new disks"}
}

func (m galleryMesh) Member(name string) (gossip.Member, bool) {
	i := slices.IndexFunc(m.members, func(x gossip.Member) bool { return x.Name == name })
	if i < 0 {
		return gossip.Member{}, false
	}
	return m.members[i], true
}

// cluster puts the agent among nodes that have what their jobs were given, and a little more.
func (g *gallery) cluster(names ...string) {
	m := galleryMesh{}
	for i, name := range names {
		meta := gossip.Meta{Version: "test", CPUs: 1}
		for _, x := range g.here {
			if x.status().Owner == name && x.live != nil {
				meta.Jobs++
				meta.Allocated += x.status().Execution.Allocation
				meta.Headroom -= max(x.spec().CPUs, x.status().Execution.Allocation)
			}
		}
		meta.CPUs = max(1, math.Ceil(-meta.Headroom))
		meta.Headroom += meta.CPUs
		m.members = append(m.members, gossip.Member{Name: name, State: gossip.Alive, Meta: meta, Address: fmt.Sprintf("10.0.0.%d:7946", i+1)})
	}
	g.Agent.cluster = newCluster(m, nil)
}

// thesis are jobs like those of the thesis, as they stand after 26 minutes.
func (g *gallery) thesis() {
	minutes := func(n float64) qos.Deadline { return qos.Deadline{After: time.Duration(n * float64(time.Minute))} }
	series := func(n int, name string, iterations int, duration, deadline, cpus float64) {
		x := g.add(n, name, qos.Chronos, qos.QoS{Duration: duration, Deviation: 0.2, Deadline: minutes(deadline)}, iterations, cpus, time.Duration(n)*4*time.Second)
		x.node = fmt.Sprintf("node-%d", n%3+1)
	}
	series(1, "openmpLinpack1", 6, 180, 40, 0.5)
	series(2, "openmpLinpack2", 4, 240, 38, 0.4)
	series(3, "openmpLinpack3", 13, 65, 30, 0.3)
	series(4, "openmpLinpack4", 11, 65, 44, 0.3)
	series(5, "openmpLinpack5", 12, 40, 36, 0.2)
	x := g.add(6, "/lattice/openmplinpack1", qos.Marathon, qos.QoS{Duration: 850, Deviation: 0.1, Deadline: minutes(34), Executions: 1}, 0, 0.4, 20*time.Second)
	x.row.Record.Spec.Tenant = "lattice"
	x.node, x.moves = "node-2", g.now.Add(9*time.Minute)
	g.add(7, "/render/frames", qos.Marathon, qos.QoS{Duration: 900, Deviation: 0.1, Deadline: minutes(22), Executions: 1}, 0, 0.3, 11*time.Minute).node = "node-3"
	for g.now.Before(time.Now().Add(-galleryStep)) {
		g.step()
	}
	g.add(8, "/lattice/next", qos.Marathon, qos.QoS{Duration: 200, Deviation: 0.1, Deadline: minutes(16), Executions: 1}, 0, 0.5, time.Hour)
	g.publish(time.Now())
	g.cluster("node-1", "node-2", "node-3", "node-4")
}

// crowd adds jobs that have just begun.
func (g *gallery) crowd(n int) {
	g.now = time.Now().Add(-time.Minute)
	for i := range n {
		x := g.add(1000+i, fmt.Sprintf("/crowd/job-%04d", i), qos.Marathon, qos.QoS{Duration: 60 + float64(i%7)*20, Deviation: 0.1, Deadline: qos.Deadline{After: time.Duration(3+i%11) * time.Minute}}, 0, 0.1+float64(i%5)/10, 0)
		if i%9 != 0 {
			g.start(x, fmt.Sprintf("node-%d", i%5+1))
		}
	}
	for range 11 {
		g.step()
	}
	g.publish(time.Now())
}
