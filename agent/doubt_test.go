package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/container"
	"qosctl/qos"
)

const longJob = `{"id":"/long","cmd":"sleep 1000","cpus":0.2,"mem":32,"qos":{"duration":100,"desv_deadline":0.1,"deadline":600}}`

func isRunning(j api.Job) bool { return j.Allocation > 0 }

// poll waits until ok, which nobody tells of.
func (n *node) poll(what string, ok func() bool) {
	n.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(until) {
			n.t.Fatalf("not so: %s", what)
		}
	}
}

// unsettled is an agent that has not recovered yet; it starts nothing.
func (n *node) unsettled() *Agent {
	n.t.Helper()
	a, err := New(Options{Config: n.cfg, Version: "test", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		n.t.Fatal(err)
	}
	a.ports = map[qos.Framework]port{qos.Marathon: n.port, qos.Chronos: n.port}
	a.spawn = func(func(context.Context)) {}
	n.t.Cleanup(func() { _ = a.close() })
	return a
}

// A job that is Running without its container in hand has one all the same.
func TestNothingIsConcludedBeforeRecovery(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(t *testing.T, a *Agent, j *job){
		"claim": func(t *testing.T, a *Agent, j *job) {
			if _, start, err := a.judge(j, api.Claim{Task: "t1"}, caller{}); start || err != nil {
				t.Errorf("a second execution begins while the first one's container runs (%v)", err)
			}
		},
		"stop": func(t *testing.T, a *Agent, j *job) {
			if err := a.stopTask(j, api.Stop{Task: "t1", Signal: 15}); err == nil || j.task("t1").Exit != nil {
				t.Errorf("the task was told to exit while its container runs (%v)", err)
			}
		},
		"cancel": func(t *testing.T, a *Agent, j *job) {
			if err := a.cancel(j); err != nil || j.status().Phase.Terminal() {
				t.Errorf("%s while its container runs (%v)", j.status().Phase, err)
			}
		},
		"interrupted recovery": func(t *testing.T, a *Agent, j *job) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			a.takeUp(ctx, j, a.engineOf(j), containerID(idA, 1, 1), container.Spec{})
			if p := j.status().Phase; p != qos.PhaseRunning {
				t.Errorf("%s because the agent was stopped while it recovered", p)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := testNode(t, nil)
			n.submit(idA, longJob)
			n.claim(idA, "t1")
			n.await(idA, "running", isRunning)
			n.end()
			a := n.unsettled()
			f(t, a, a.jobs.get(idA))
		})
	}
}

// flaky is an engine whose Wait fails at first, for a reason that has nothing to do with the container.
type flaky struct {
	container.Engine
	calls atomic.Int32
}

func (f *flaky) Wait(ctx context.Context, id string) (container.Exit, error) {
	if f.calls.Add(1) == 1 {
		return container.Exit{}, errors.New("open lock: too many open files")
	}
	return f.Engine.Wait(ctx, id)
}

func TestAnErrorOfWaitIsNotTheEnd(t *testing.T) {
	t.Parallel()
	f := &flaky{}
	n := testNodeOn(t, nil, func(e engine) engine { f.Engine = e; return f })
	n.submit(idA, longJob)
	n.claim(idA, "t1")
	n.poll("waited for again", func() bool { return f.calls.Load() > 1 })
	if v := n.await(idA, "running", isRunning); v.Phase != qos.PhaseRunning || v.Index != 1 {
		t.Errorf("%s (%s), run %d", v.Phase, v.Reason, v.Index)
	}
}

// halfDeaf is an engine that can't read standard error at first.
type halfDeaf struct {
	container.Engine
	calls atomic.Int32
}

func (h *halfDeaf) Logs(ctx context.Context, id string, s container.Stream, offset int64) (io.ReadCloser, error) {
	if s == container.Stderr && h.calls.Add(1) == 1 {
		return nil, errors.New("too many open files")
	}
	return h.Engine.Logs(ctx, id, s, offset)
}

// TestAnOutputThatCannotBeReadIsSaidAtOnce: the stand-in is to attach again, and not to wait for what comes on the other one until the job's end.
func TestAnOutputThatCannotBeReadIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	h := &halfDeaf{}
	n := testNodeOn(t, nil, func(e engine) engine { h.Engine = e; return h })
	n.submit(idA, `{"id":"/loud","cmd":"echo out; echo err >&2; exec sleep 1000","cpus":0.2,"mem":32,"qos":{"duration":100,"desv_deadline":0.1,"deadline":600}}`)
	s, _ := n.claim(idA, "t1")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cursor, got := "", map[string]string{}
	for streams := 0; got["stderr"] == "" && ctx.Err() == nil; streams++ {
		stream, err := s.Output(ctx, "t1", cursor)
		for err == nil {
			var o api.Output
			if o, err = stream.Next(ctx); err != nil {
				break
			}
			got[o.Stream] += string(o.Data)
			if cursor = o.Cursor; got["stderr"] != "" && got["stdout"] != "" {
				break
			}
		}
		if stream != nil {
			_ = stream.Close() // all that counts was read
		}
	}
	if got["stdout"] != "out\n" || got["stderr"] != "err\n" {
		t.Errorf("got %q", got)
	}
}

// broken is an engine whose start fails after the container has started.
type broken struct{ container.Engine }

func (b broken) Start(ctx context.Context, id string) error {
	if err := b.Engine.Start(ctx, id); err != nil {
		return err
	}
	return context.DeadlineExceeded
}

func TestAStartThatFailedInDoubtIsLookedAt(t *testing.T) {
	t.Parallel()
	n := testNodeOn(t, nil, func(e engine) engine { return broken{e} })
	n.submit(idA, longJob)
	n.claim(idA, "t1")
	if v := n.await(idA, "running", isRunning); v.Index != 1 || v.Tally.Failed != 0 {
		t.Errorf("%+v", v)
	}
}

func TestRunsThatCannotBeStartedAreFailures(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, `{"id":"/nothing","args":["/no/such/program"],"cpus":0.2,"mem":32,"qos":{"duration":1,"desv_deadline":0.1,"deadline":60,"max_failures":2}}`)
	for _, task := range []string{"t0", "t1"} {
		s, _ := n.claim(idA, task)
		if _, _, code := n.read(s, task); code != container.CodeNotFound {
			t.Errorf("exit code %d", code)
		}
	}
	n.await(idA, "failed", inPhase(qos.PhaseFailed))
}

// A stop that was answered is carried out even if the agent ends before it is done.
func TestAStopSurvivesTheAgent(t *testing.T) {
	t.Parallel()
	n := testNode(t, func(c *Config) { c.Run.KillGrace = 3 * time.Second })
	n.submit(idA, `{"id":"/deaf","cmd":"trap '' TERM; echo ready; while :; do sleep 1; done","cpus":0.2,"mem":32,"qos":{"duration":100,"desv_deadline":0.1,"deadline":600}}`)
	s, _ := n.claim(idA, "t1")
	n.ready(s, "t1")
	if err := s.Stop(t.Context(), api.Stop{Task: "t1", Signal: 15}); err != nil {
		t.Fatal(err)
	}
	n.end()
	n.begin()
	n.await(idA, "stopped", inPhase(qos.PhaseLost))
}

// A stop that had its effect while the agent was away is no failure of the job.
func TestAStopThatWorkedWhileTheAgentWasAwayIsNoFailure(t *testing.T) {
	t.Parallel()
	n := testNode(t, func(c *Config) { c.Run.KillGrace = 5 * time.Second })
	n.submit(idA, `{"id":"/slow","cmd":"trap 'sleep 1; exit 143' TERM; echo ready; while :; do sleep 0.1; done","cpus":0.2,"mem":32,"qos":{"duration":100,"desv_deadline":0.1,"deadline":600,"max_failures":1}}`)
	s, _ := n.claim(idA, "t1")
	n.ready(s, "t1")
	if err := s.Stop(t.Context(), api.Stop{Task: "t1", Signal: 15}); err != nil {
		t.Fatal(err)
	}
	n.end()
	n.poll("its container has ended", func() bool {
		all, err := openEngines(n.cfg, "", slog.New(slog.DiscardHandler))
		e := all.process
		if err != nil {
			t.Fatal(err)
		}
		list, err := e.List(t.Context())
		return err == nil && len(list) == 1 && list[0].State == container.Exited
	})
	n.begin()
	if v := n.await(idA, "booked", func(j api.Job) bool { return j.Phase != qos.PhaseRunning }); v.Phase != qos.PhaseLost {
		t.Errorf("%s (%s)", v.Phase, v.Reason)
	}
}

// ready waits until a job has written its first line.
func (n *node) ready(s *api.Standin, task string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 20*time.Second)
	defer cancel()
	stream, err := s.Output(ctx, task, "")
	if err != nil {
		n.t.Fatal(err)
	}
	defer stream.Close()
	if o, err := stream.Next(ctx); err != nil || !strings.Contains(string(o.Data), "ready") {
		n.t.Fatalf("%+v, %v", o, err)
	}
}

// A series of short iterations is stopped, too, when its stand-in has gone.
func TestASeriesWithoutStandInEnds(t *testing.T) {
	t.Parallel()
	n := testNode(t, func(c *Config) { c.Run.DetachGrace = time.Second })
	n.submit(idA, `{"name":"s","command":"sleep 0.3","schedule":"R100//PT1M","cpus":0.2,"mem":32,"qos":{"duration":1,"desv_deadline":0.2,"deadline":600}}`)
	n.claim(idA, "t1") // and never reads
	if v := n.await(idA, "lost", inPhase(qos.PhaseLost)); v.Index > 10 {
		t.Errorf("lost only at iteration %d", v.Index)
	}
}

func TestContainersOfASeriesAreBounded(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, `{"name":"s","command":"true","schedule":"R12//PT1M","cpus":0.5,"mem":32,"qos":{"duration":1,"desv_deadline":0.2,"deadline":600}}`)
	s, _ := n.claim(idA, "t1")
	n.read(s, "t1")
	n.await(idA, "completed", inPhase(qos.PhaseCompleted))
	n.poll(fmt.Sprintf("at most %d containers are kept", keepContainers), func() bool {
		list, err := n.agent.engines.process.List(t.Context())
		return err == nil && len(list) <= keepContainers
	})
}

// A running container that no job holds is stopped.
func TestOrphansAreStopped(t *testing.T) {
	t.Parallel()
	n := testNode(t, func(c *Config) { c.Run.DetachGrace = 500 * time.Millisecond })
	e := n.agent.engines.process
	err := e.Create(t.Context(), container.Spec{ID: "orphan", Command: "sleep 1000", Labels: map[string]string{labelJob: idB}, Limits: container.Limits{CPUs: 0.1, Shares: 0.1}})
	if err := errors.Join(err, e.Start(t.Context(), "orphan")); err != nil {
		t.Fatal(err)
	}
	n.poll("the orphan is stopped", func() bool {
		i, err := e.Inspect(t.Context(), "orphan")
		return errors.Is(err, container.ErrNotFound) || err == nil && i.State == container.Exited
	})
}

func TestJobsWhoseIDsBeginAlikeHaveContainersOfTheirOwn(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	other := strings.Replace(idA, "-4000-", "-4111-", 1)
	for id, file := range map[string]string{idA: `{"id":"/one","cmd":"echo one"`, other: `{"id":"/two","cmd":"echo two"`} {
		n.submit(id, file+`,"cpus":0.2,"mem":32,"qos":{"duration":1,"desv_deadline":0.1,"deadline":60}}`)
	}
	for id, want := range map[string]string{idA: "one\n", other: "two\n"} {
		s, _ := n.claim(id, "t-"+want[:3])
		if out, _, _ := n.read(s, "t-"+want[:3]); out != want {
			t.Errorf("%s reads %q", id, out)
		}
	}
}

// What an ended container was created with is not what was in force.
func TestAnEndedContainerDoesNotResetTheAllocation(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, `{"id":"/r","cmd":"true","cpus":0.2,"mem":32,"qos":{"duration":1,"desv_deadline":0.1,"deadline":60}}`)
	s, _ := n.claim(idA, "t1")
	n.read(s, "t1")
	a, j := n.agent, n.agent.jobs.get(idA)
	info, err := a.engines.process.Inspect(t.Context(), containerID(idA, 1, 1))
	if err != nil || info.State != container.Exited {
		t.Fatalf("%+v, %v", info, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.live, j.status().Execution.Allocation = &live{container: info.ID, engine: a.engines.process}, 0.7
	a.locate(j, info)
	if got := j.status().Execution.Allocation; got != 0.7 {
		t.Errorf("allocation %g", got)
	}
	_ = j.live.reader.Close() // read only
	j.live = nil
}

// A spec that comes with a claim must be one that the framework knows.
func TestACarriedSpecIsChecked(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.port.secrets[idB] = "made up"
	for name, spec := range map[string]qos.Spec{
		"nonsense": {ID: idB, Name: "x", Framework: "nonsense", CPUs: -3, Source: []byte("null")},
		"made up": {
			ID: idB, Name: "/x", Framework: qos.Marathon, CPUs: 1, Process: qos.Process{Command: "id"}, Source: []byte("null"),
			QoS: qos.QoS{Duration: 1, Deadline: qos.Deadline{After: time.Minute}},
		},
	} {
		b := mustJSON(t, spec)
		if _, err := n.standin(idB).Claim(t.Context(), api.Claim{Task: "t", Spec: b}); err == nil || n.agent.jobs.get(idB) != nil {
			t.Errorf("%s: taken (%v)", name, err)
		}
	}
}

// A series that was cancelled or disabled between two iterations does not go on.
func TestASeriesThatWasStoppedDoesNotGoOn(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(j *job){
		"cancelled": func(j *job) { j.status().Intent = qos.IntentCancel },
		"suspended": func(j *job) { _ = j.enter(qos.PhaseSuspended, time.Now(), "disabled") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := testNode(t, nil)
			j := newJob(row{Record: qos.Record{
				Spec:   qos.Spec{ID: idA, Name: "s", Framework: qos.Chronos, CPUs: 0.1, Iterations: 9, Process: qos.Process{Command: "true"}},
				Status: qos.Status{Phase: qos.PhaseEnded, Execution: &qos.Execution{Index: 1, Task: "t"}},
			}})
			j.addTask(task{ID: "t", First: 1})
			change(j)
			n.agent.beginAfter(t.Context(), j, "t", 0)
			j.mu.Lock()
			defer j.mu.Unlock()
			if j.status().Execution.Index != 1 {
				t.Error("its next iteration was started")
			}
		})
	}
}

// A stand-in whose job was taken over by another task is told to end.
func TestTheFormerStandInIsToldToEnd(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, longJob)
	s, _ := n.claim(idA, "t1")
	n.await(idA, "running", isRunning)
	done := make(chan int, 1)
	go func() {
		_, _, code := n.read(s, "t1")
		done <- code
	}()
	n.await(idA, "attached", func(api.Job) bool {
		j := n.agent.jobs.get(idA)
		j.mu.Lock()
		defer j.mu.Unlock()
		return j.attached > 0
	})
	n.claim(idA, "t2")
	if code := <-done; code != exitNotStarted {
		t.Errorf("exit code %d", code)
	}
}
