package agent

import (
	"context"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"qosctl/cgroup"
	"qosctl/container"
	"qosctl/qos"
)

// mute is an engine that takes what it is asked, and does not answer.
type mute struct {
	container.Engine
	asked int
}

func (m *mute) Inspect(ctx context.Context, _ string) (container.Info, error) {
	m.asked++
	<-ctx.Done()
	return container.Info{}, ctx.Err()
}

func (m *mute) Resize(ctx context.Context, id string, _ container.Limits) error {
	_, err := m.Inspect(ctx, id)
	return err
}

// frank is an engine that reads quotas from the kernel, and is asked for nothing else.
type frank struct {
	container.Engine

	t *testing.T
	c *simContainer
}

func (p frank) Inspect(context.Context, string) (container.Info, error) {
	p.t.Error("the engine is asked for all that it knows, for the quota alone")
	return container.Info{}, container.ErrNotFound
}

func (p frank) Quota(string, cgroup.Group) (float64, error) { return p.c.Limits.CPUs, nil }

func TestTheQuotaInForceIsReadWithoutAskingTheEngine(t *testing.T) {
	t.Parallel()
	still(t, nil, func(t *testing.T, h hand, a *Agent) {
		j, c := h.begun(t, a, 0, "docker")
		j.live.engine, j.live.group.CPU = frank{j.live.engine, t, c}, "/any"
		c.Limits.CPUs = 0.1 // set by somebody else: to be mended
		a.decide(t.Context(), time.Now())
		if want := j.status().Execution.Allocation; !sameCPUs(c.Limits.CPUs, want) {
			t.Errorf("%.2f CPUs are in force, not %.2f", c.Limits.CPUs, want)
		}
	})
}

// still hands f an agent that stands still: it does what it is asked, and nothing by itself.
func still(t *testing.T, cfg func(*Config), f func(t *testing.T, h hand, a *Agent)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 3, cfg)
		defer func() { _ = os.RemoveAll(w.dir) }() // in memory, and this test's
		n := w.nodes[0]
		n.disk = w.newDisk(n)
		h := hand{n, 0}
		a, err := h.make(n.config())
		if err != nil {
			t.Fatal(err)
		}
		defer a.close() //nolint:errcheck // of the test's own directory
		a.spawn = func(func(context.Context)) {}
		f(t, h, a)
	})
}

// In a dry run decisions are made and kept, and what is in force stays: the allocation, and a quota that somebody else has set.
func TestADryRunWritesNothing(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{modeAct, modeAdvise} {
		still(t, func(c *Config) { c.Control.Mode, c.Control.DryRun = mode, mode == modeAdvise }, func(t *testing.T, h hand, a *Agent) {
			j, c := h.begun(t, a, 0, "process")
			j.row.Record.Spec.QoS = qos.QoS{Duration: 600, Deadline: qos.Deadline{After: 400 * time.Second}}
			j.status().Execution.Deadline = time.Now().Add(400 * time.Second)
			a.decide(t.Context(), time.Now().Add(2*paceEvery))
			d := j.decisions[len(j.decisions)-1]
			if d.To <= d.From || d.Reason == "" {
				t.Fatalf("%s: nothing is to be done: %+v", mode, d)
			}
			if is := c.Limits.CPUs; mode == modeAct && !sameCPUs(is, d.To) || mode == modeAdvise && !sameCPUs(is, 0.5) {
				t.Errorf("%s: %.2f CPUs are in force of %.2f decided", mode, is, d.To)
			}
			advised := testutil.ToFloat64(a.metrics.decisions.WithLabelValues(wantRaise, outcomeAdvised))
			if want := map[string]float64{modeAdvise: 1}[mode]; advised != want {
				t.Errorf("%s: %g decisions are counted as advised, not %g", mode, advised, want)
			}
			c.Limits.CPUs = 0.1
			a.decide(t.Context(), time.Now().Add(2*mendEvery))
			if is := c.Limits.CPUs; (mode == modeAdvise) != sameCPUs(is, 0.1) {
				t.Errorf("%s: a quota that somebody else has set to 0.10 is %.2f", mode, is)
			}
		})
	}
}

// begun gives an agent that does not run a job with a running container.
func (h hand) begun(t *testing.T, a *Agent, i int, engine string) (*job, *simContainer) {
	t.Helper()
	id, eng := simID(i), a.engines.process
	spec := qos.Spec{ID: id, Name: fmt.Sprint("/j", i), Framework: qos.Marathon, CPUs: 0.5, Submitted: time.Now().Add(time.Duration(i) * time.Second)}
	if engine == "docker" {
		spec.Container, eng = &qos.Container{Image: "img"}, a.engines.docker
	}
	c, err := h.n.add(engine, container.Spec{ID: containerID(id, 1, 1), Limits: container.Limits{CPUs: 0.5}})
	if err != nil {
		t.Fatal(err)
	}
	h.n.start(c, 1)
	j := newJob(row{Record: qos.Record{Spec: spec, Status: qos.Status{Phase: qos.PhasePending, Started: time.Now()}}})
	j.addTask(task{ID: "t1", First: 1})
	if err := a.openExecution(j, j.task("t1")); err != nil {
		t.Fatal(err)
	}
	a.jobs.add(j)
	a.hold(t.Context(), j, eng, c.ID)
	return j, c
}

// TestAnEngineThatDoesNotAnswerHoldsNobodyUp lets Docker take questions without answering: the jobs of the other engine are decided upon all the
// same, and nobody waits for a job's lock.
func TestAnEngineThatDoesNotAnswerHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	still(t, nil, func(t *testing.T, h hand, a *Agent) {
		m := &mute{Engine: a.engines.docker}
		for i := range 3 {
			j, _ := h.begun(t, a, i, "docker")
			j.live.engine = m
		}
		j, c := h.begun(t, a, 3, "process")
		c.Limits.CPUs = 0.1 // set by somebody else: to be mended
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		begin := time.Now()
		a.decide(ctx, begin)
		if took := time.Since(begin); took > 2*engineTime || m.asked != 1 {
			t.Errorf("it took %v, the silent engine was asked %d times", took, m.asked)
		}
		if want := j.status().Execution.Allocation; !sameCPUs(c.Limits.CPUs, want) {
			t.Errorf("the other engine's container has %.2f CPUs, not %.2f", c.Limits.CPUs, want)
		}
		if a.decide(ctx, begin.Add(time.Minute)); m.asked != 2 {
			t.Errorf("the silent engine was asked %d times in two looks", m.asked)
		}
		j.live.engine, j.live.written = m, begin
		j.steward().Attached = true
		begin = time.Now()
		if err := a.detach(ctx, j); err == nil || time.Since(begin) > 2*engineTime {
			t.Errorf("a job is detached without its request: %v after %v", err, time.Since(begin))
		}
	})
}
