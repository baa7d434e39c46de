package qos

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// genJob draws a running job at 50 s: any progress, history, bounds and deadline.
func genJob(id string) *rapid.Generator[JobView] {
	cpus := func(low, high float64) *rapid.Generator[float64] {
		return rapid.Map(rapid.Float64Range(low, high), func(x float64) float64 { return math.Round(x*100) / 100 })
	}
	return rapid.Custom(func(t *rapid.T) JobView {
		v := JobView{ID: id, Framework: Marathon, Runs: 1, RunsLeft: 1, Start: at(0), Deploy: 0.2}
		if rapid.Bool().Draw(t, "chronos") {
			v.Framework = Chronos
			v.Runs = rapid.IntRange(1, 15).Draw(t, "runs")
			v.RunsLeft = rapid.IntRange(1, v.Runs).Draw(t, "left")
		}
		v.QoS.Duration = rapid.Float64Range(0, 60).Draw(t, "duration")
		v.QoS.Deviation = rapid.Float64Range(0, 0.5).Draw(t, "deviation")
		v.QoS.Weight = rapid.Float64Range(0, 3).Draw(t, "weight")
		v.Deadline = at(rapid.Float64Range(20, 300).Draw(t, "deadline"))
		v.Min = cpus(0.05, 0.2).Draw(t, "min")
		v.Max = cpus(0.2, 3).Draw(t, "max")
		v.Request = cpus(0.05, 1).Draw(t, "request")
		v.Allocation = min(max(cpus(0.05, 3).Draw(t, "allocation"), v.Min), v.Max)
		v.Usage = v.Allocation * rapid.Float64Range(0, 1.02).Draw(t, "used")
		v.Throttled = rapid.Float64Range(0, 1).Draw(t, "throttled")
		v.RunStart = at(rapid.Float64Range(0, 50).Draw(t, "run start"))
		v.Progress = rapid.Float64Range(0, 60).Draw(t, "progress")
		if rapid.Bool().Draw(t, "seen") {
			v.Model.Observe(rapid.Float64Range(1, 200).Draw(t, "wall"), rapid.Float64Range(0.1, 2).Draw(t, "cpus"), rapid.Float64Range(1, 60).Draw(t, "work"))
		}
		if rapid.Bool().Draw(t, "changed") {
			v.LastChange = at(rapid.Float64Range(0, 50).Draw(t, "change"))
		}
		v.Memory = Memory{Idle: rapid.IntRange(0, 2).Draw(t, "idle"), Doomed: rapid.IntRange(0, 3).Draw(t, "doomed")}
		return v
	})
}

func genNode() *rapid.Generator[NodeView] {
	return rapid.Custom(func(t *rapid.T) NodeView {
		n := NodeView{Now: at(50), Borrow: rapid.Bool().Draw(t, "borrow")}
		low := 0.0
		for i := range rapid.IntRange(1, 7).Draw(t, "jobs") {
			v := genJob(fmt.Sprintf("j%d", i)).Draw(t, "job")
			n.Jobs = append(n.Jobs, v)
			low += max(v.Min, v.Request)
		}
		n.Sold = rapid.Float64Range(0, 2).Draw(t, "sold")
		n.CPUs = n.Sold + low*rapid.Float64Range(1, 3).Draw(t, "room")
		return n
	})
}

func TestAllocationsStayWithinBoundsAndCapacity(t *testing.T) {
	t.Parallel()
	pol := mustPolicy(t, PolicyDeadline)
	rapid.Check(t, func(t *rapid.T) {
		n := genNode().Draw(t, "node")
		decisions := pol.Decide(n)
		if diff := cmp.Diff(decisions, pol.Decide(n)); diff != "" {
			t.Fatalf("the same view, other decisions:\n%s", diff)
		}
		sum := 0.0
		for i, d := range decisions {
			v := n.Jobs[i]
			if d.Job != v.ID || d.Rule == "" || d.Reason == "" {
				t.Fatalf("decision %d is for %q by %q", i, d.Job, d.Rule)
			}
			if d.To < v.Min-hair || d.To > v.Max+hair || math.IsNaN(d.To) {
				t.Fatalf("%s: %g is not within %g..%g", d.Job, d.To, v.Min, v.Max)
			}
			if !n.Borrow && d.To > max(v.Request, v.Min)+hair {
				t.Fatalf("%s: %g of a request of %g without borrowing", d.Job, d.To, v.Request)
			}
			if d.Late && d.State == OverPerformant {
				t.Fatalf("%s is late and over-performant", d.Job)
			}
			if math.IsNaN(d.Need) || math.IsInf(d.Need, 0) || math.IsNaN(d.Ratio) || math.IsInf(d.Ratio, 0) {
				t.Fatalf("figures that are none: %+v", d)
			}
			sum += d.To
		}
		if sum > n.CPUs-n.Sold+1e-6 {
			t.Fatalf("%g CPUs given of %g", sum, n.CPUs-n.Sold)
		}
	})
}

func TestARequestIsOnlyLentToWhoNeedsIt(t *testing.T) {
	t.Parallel()
	pol := mustPolicy(t, PolicyDeadline)
	rapid.Check(t, func(t *rapid.T) {
		n := genNode().Draw(t, "node")
		asked := 0.0
		for i := range n.Jobs {
			n.Jobs[i].Allocation = max(n.Jobs[i].Min, min(n.Jobs[i].Request, n.Jobs[i].Max))
			n.Jobs[i].Memory.Doomed = 0
		}
		decisions := pol.Decide(n)
		for _, d := range decisions {
			asked += d.Need
		}
		for i, d := range decisions {
			v, need := n.Jobs[i], d.Need
			if asked > n.CPUs-n.Sold { // margins go first
				need = d.Bare
			}
			if entitled := min(v.Request, v.Max, need); d.To < entitled-0.011 && !d.Late && d.State != UnderPerformant {
				idle := v.Memory.Idle > 0 && v.Throttled < throttledFrom
				if !idle {
					t.Fatalf("%s has %g of the %g it bought and needs: %s", d.Job, d.To, entitled, d.Reason)
				}
			}
			if asked <= n.CPUs-n.Sold-0.2*float64(len(n.Jobs)) && d.To < min(v.Request, v.Max)-0.2 {
				others := false
				for _, o := range decisions {
					others = others || o.To > o.From+hair
				}
				if !others {
					t.Fatalf("%s is below its request for nobody: %s", d.Job, d.Reason)
				}
			}
		}
	})
}

func TestMoreWorkNeverGivesALoneJobLess(t *testing.T) {
	t.Parallel()
	pol := mustPolicy(t, PolicyDeadline)
	rapid.Check(t, func(t *rapid.T) {
		v := genJob("lone").Draw(t, "job")
		less := v
		v.Progress = rapid.Float64Range(0, less.Progress).Draw(t, "less progress")
		v.Runs++
		v.RunsLeft += rapid.IntRange(0, 1).Draw(t, "more runs")
		if v.Framework == Marathon && v.RunsLeft > 1 {
			return
		}
		// Lateness alone lets a job keep what it has, and what the node has no room for gets what others leave; compare like with like.
		n := NodeView{Now: at(50), CPUs: 2, Borrow: true}
		decide := func(v JobView) Decision {
			n.Jobs = []JobView{v}
			return pol.Decide(n)[0]
		}
		a, b := decide(less), decide(v)
		before, after := look(less, n.Now, Params{}.WithDefaults()), look(v, n.Now, Params{}.WithDefaults())
		if a.Late != b.Late || after.need > n.CPUs || after.remaining < before.remaining { // that of a straggler has no less to do
			return
		}
		if b.To < min(a.To, a.Need)-hair { // what a job has beyond its need is no claim
			t.Fatalf("less work left: %g (%s), more: %g (%s)", a.To, a.Reason, b.To, b.Reason)
		}
	})
}

func TestNoActionInTheDeadZone(t *testing.T) {
	t.Parallel()
	pol := mustPolicy(t, PolicyDeadline)
	p := Params{}.WithDefaults()
	rapid.Check(t, func(t *rapid.T) {
		v := genJob("lone").Draw(t, "job")
		v.Request = min(max(v.Request, v.Min), v.Max)
		need := look(v, at(50), p).need
		if need > v.Max || need < v.Min {
			return
		}
		// The node has no more than the job has, which lies within half a dead zone of what it needs.
		v.Allocation = max(need*rapid.Float64Range(0.976, 1.05).Draw(t, "near"), v.Min)
		if v.Allocation > 1 || v.Allocation > v.Max {
			return
		}
		v.Usage, v.Throttled = v.Allocation, 1
		d := pol.Decide(NodeView{Now: at(50), CPUs: v.Allocation, Borrow: true, Jobs: []JobView{v}})[0]
		if d.To != d.From {
			t.Fatalf("need %g: %g -> %g by %s: %s", d.Need, d.From, d.To, d.Rule, d.Reason)
		}
	})
}

func TestOnTimeIsRight(t *testing.T) {
	t.Parallel()
	sharesOf := func(figures ...[3]float64) []*share { // seconds left, CPU seconds of work, greatest speed
		var out []*share
		for i, f := range figures {
			s := &share{view: JobView{ID: fmt.Sprint(i)}, cap: f[2]}
			s.left, s.bare, s.least = f[0], f[1]/f[0], f[1]/f[0]
			out = append(out, s)
		}
		return out
	}
	for _, tt := range []struct {
		name string
		jobs []*share
		pool float64
		want bool
	}{
		{"one that fits", sharesOf([3]float64{100, 90, 1}), 2, true},
		{"more than there is", sharesOf([3]float64{100, 150, 2}, [3]float64{100, 150, 2}), 2, false},
		{"the later one can catch up", sharesOf([3]float64{50, 50, 1}, [3]float64{100, 150, 2}), 2, true},
		{"the later one cannot, at its greatest speed", sharesOf([3]float64{50, 75, 2}, [3]float64{100, 95, 1}), 1.4, false},
		{"a long one side by side with short ones", sharesOf([3]float64{100, 100, 1}, [3]float64{50, 50, 1}, [3]float64{100, 50, 1}), 2, true},
	} {
		if got := onTime(tt.jobs, tt.pool); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

// constant is a node with jobs whose work is known exactly, at constant load.
func constant(t *testing.T, requests ...float64) *closedLoop {
	c := &closedLoop{policy: mustPolicy(t, PolicyDeadline), cpus: 2, tick: 2}
	for i, r := range requests {
		j := &simJob{works: []float64{40}, parallel: 0.5}
		j.view = JobView{
			ID: fmt.Sprintf("j%d", i+1), Framework: Marathon,
			QoS:     QoS{Duration: 40, Deviation: 0.1, Deadline: Deadline{After: 100 * time.Second}},
			Request: r, Min: 0.1, Max: 2, Allocation: r, Runs: 1, RunsLeft: 1,
		}
		for range 5 {
			j.view.Model.Observe(40, 1, 40)
		}
		c.jobs = append(c.jobs, j)
	}
	return c
}

func TestNoOscillationUnderConstantLoad(t *testing.T) {
	t.Parallel()
	c := constant(t, 0.3, 0.4, 0.6, 0.5)
	turns := map[string]int{}
	last := map[string]float64{}
	c.check = func(_ float64, _ NodeView, ds []Decision) {
		for _, d := range ds {
			if step := d.To - d.From; step != 0 {
				if step*last[d.Job] < 0 {
					turns[d.Job]++
				}
				last[d.Job] = step
			}
		}
	}
	c.run(200)
	for _, j := range c.jobs {
		if !j.met() || j.resizes > 4 || turns[j.view.ID] > 2 {
			t.Errorf("%s: met %t, %d resizes, %d turns", j.view.ID, j.met(), j.resizes, turns[j.view.ID])
		}
	}
}

func TestAJobRecoversAfterADisturbance(t *testing.T) {
	t.Parallel()
	// Mesos sells 1.6 of 2 CPUs from 10 s to 40 s; what was lost is made up for afterwards.
	c := constant(t, 0.2, 0.2)
	c.sold = func(t float64) float64 {
		if t >= 10 && t < 40 {
			return 1.6
		}
		return 0
	}
	c.check = func(now float64, n NodeView, ds []Decision) {
		sum := 0.0
		for _, d := range ds {
			sum += d.To
		}
		if sum > n.CPUs-n.Sold+1e-6 {
			t.Errorf("at %g s %g CPUs are given, %g are there", now, sum, n.CPUs-n.Sold)
		}
	}
	c.run(200)
	for _, j := range c.jobs {
		if !j.met() {
			t.Errorf("%s ended at %g s", j.view.ID, j.finished)
		}
	}
}

func TestOverloadIsNotSharedOutAsMisery(t *testing.T) {
	t.Parallel()
	// Four jobs of 60 CPU seconds within 100 s on 2 CPUs: three can be on time, not four.
	c := constant(t, 0.4, 0.4, 0.4, 0.4)
	for _, j := range c.jobs {
		j.works = []float64{60}
		j.view.Model = Model{A: 30, B: 30, Work: 60, N: 5}
	}
	c.run(400)
	met := 0
	for _, j := range c.jobs {
		if j.met() {
			met++
		}
	}
	if met != 3 {
		t.Errorf("%d of 3 possible deadlines were met", met)
	}
}

func TestTheThesisCaseIIIIsInTime(t *testing.T) {
	t.Parallel()
	// openmpLinpack1 by Marathon: declared 400 s, in truth 480.4 CPU seconds, deadline 480 s, 2 CPUs; the thesis' own law misses it
	// under a hard quota.
	caseIII := func(policy string) *simJob {
		j := &simJob{works: []float64{480.4}, parallel: 236.4 / 480.4}
		j.view = JobView{
			ID: "openmpLinpack1", Framework: Marathon,
			QoS:     QoS{Duration: 400, Deviation: 0.1, Deadline: Deadline{After: 480 * time.Second}},
			Request: 1, Min: 0.1, Max: 2, Allocation: 1, Runs: 1, RunsLeft: 1,
		}
		c := &closedLoop{policy: mustPolicy(t, policy), cpus: 2, tick: 5, jobs: []*simJob{j}}
		c.run(1000)
		return j
	}
	if j := caseIII(PolicyDeadline); !j.met() || j.resizes > 6 {
		t.Errorf("deadline: ended at %.0f s after %d resizes", j.finished, j.resizes)
	}
	if j := caseIII(PolicyNone); j.met() {
		t.Errorf("none: ended at %.0f s, in time", j.finished)
	}
}

// What the node is short of, jobs feel: where the bare need is all that one is given, it must be done a little before its deadline, since looks are
// seconds apart and estimates are none too fine.
func TestTheBareNeedIsDoneBeforeTheDeadline(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		left := rapid.Float64Range(20, 1000).Draw(t, "left")
		allowed := left * rapid.Float64Range(1, 10).Draw(t, "allowed over left")
		v := job(func(v *JobView) {
			v.Start, v.Deadline, v.Runs, v.RunsLeft = at(0), at(allowed), 1, 1
			v.Model, v.Max = Guess(0.8*left), 8
			v.Model.N = 5
		})
		o := look(v, at(allowed-left), Params{}.WithDefaults())
		spare := o.left - o.model.Time(o.bare)
		if least := min(bareReserve*leastMargin*allowed, o.margin, mostMargin*left); spare < least-1e-6 {
			t.Fatalf("with its bare need of %g CPUs it is done %g s before its deadline, of %g allowed; at least %g", o.bare, spare, allowed, least)
		}
	})
}

func TestAJobWhoseRunsAreLaunchedOneByOneRunsEarlyAboveOneCPUIfItNeedsHalfOfOne(t *testing.T) {
	t.Parallel()
	pol := mustPolicy(t, PolicyDeadline)
	for _, c := range []struct {
		name   string
		left   float64
		deploy float64
		early  bool
	}{
		{"needs more than half a CPU", 85, 1, true},
		{"needs less", 180, 1, false},
		{"is launched once", 85, 0, false},
	} {
		v := job(func(v *JobView) { v.Deadline, v.Deploy, v.Allocation, v.LastChange = at(50+c.left), c.deploy, 1, at(0) })
		d := pol.Decide(NodeView{Now: at(50), CPUs: 2, Borrow: true, Jobs: []JobView{v}})[0]
		if d.Need > 1 || (d.To > 1) != c.early {
			t.Errorf("%s: needs %.2f, %s: %.2f CPUs", c.name, d.Need, d.Rule, d.To)
		}
	}
}
