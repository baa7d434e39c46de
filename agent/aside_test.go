package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/ckpt"
	"qosctl/container"
	"qosctl/qos"
)

// An owner that loses its store while it hears none of its peers, and can't learn what it has: what runs is saved before it is stopped, and
// the job goes on from there.
func TestJepsenAnOwnerThatLosesItsStoreAndHearsNobody(t *testing.T) {
	scene(t, func(s *stage) {
		old, had := s.owner, s.box
		s.cut([]string{old.name, masterName}) // the task is not lost
		old.kill()
		s.mu.Lock()
		s.master.still = true
		s.master.apps[s.job.name].task.stop() // its stand-in goes without a word
		s.mu.Unlock()
		old.wipe()
		old.boot()
		ended := func() bool { s.mu.Lock(); defer s.mu.Unlock(); return had.State == container.Exited }
		if !s.until(2*time.Minute, "the container that nobody knows is stopped", ended) {
			return
		}
		pause(context.Background(), 10*time.Second)
		s.cut()
		if !s.together(time.Minute) {
			return
		}
		s.mu.Lock()
		s.master.still = false
		s.mu.Unlock()
		if s.until(2*time.Minute, "it runs again", func() bool { return s.look(2) }) {
			s.want(s.box.base == had.kernel, "it goes on from %v, had %v", s.box.base, had.kernel)
			s.settle()
			st := s.status(s.owner)
			s.want(st.Execution.Index == 1 && st.Tally.Failed == 0, "execution %d, %+v", st.Execution.Index, st.Tally)
		}
	})
}

// An agent that is alone and whose store is lost: a container whose stand-in does not come is saved before it is stopped, and the task that
// comes at last goes on from there.
func TestALostStoreAndNobodyWhoAsks(t *testing.T) {
	t.Parallel()
	k := &fakeKeeper{}
	n := testDocker(t, k, func(c *Config) { c.Run.DetachGrace = 3 * time.Second }) // it has to run before that
	n.submit(idA, dockerJob(`while :; do :; done`))
	n.claim(idA, "t1")
	n.await(idA, "running", func(j api.Job) bool { return j.Progress > 0.05 })
	j := n.agent.jobs.get(idA)
	j.mu.Lock()
	carried := mustJSON(t, j.spec())
	j.mu.Unlock()
	n.end()
	if err := os.Remove(filepath.Join(n.cfg.DataDir, storeFile)); err != nil {
		t.Fatal(err)
	}
	n.begin()
	n.poll("it is saved and stopped", func() bool {
		i, err := n.agent.engines.docker.Inspect(t.Context(), containerID(idA, 1, 1))
		return len(k.held()) == 1 && err == nil && i.State == container.Exited
	})
	m := k.held()[0]
	if m.Execution != 1 || m.Incarnation != 1 || m.Kept || m.CPU < 50*time.Millisecond {
		t.Errorf("%+v", m)
	}
	if _, err := n.standin(idA).Claim(t.Context(), api.Claim{Task: "t2", Spec: carried, Env: []string{"PATH=" + os.Getenv("PATH")}}); err != nil {
		t.Fatal(err)
	}
	v := n.await(idA, "running", func(j api.Job) bool {
		return j.Phase == qos.PhaseRunning && j.Account != nil && j.Account.Entries[j.Account.Live].Base > 0
	})
	if v.Index != 1 || v.Account.Live.N != 2 || v.Account.Entries[v.Account.Live].Base != m.CPU || v.Consumed < m.CPU.Seconds() {
		t.Errorf("%+v, account %+v", v, v.Account)
	}
}

// What can't be saved is stopped all the same, after some tries.
func TestAContainerThatNobodyHoldsAndThatCannotBeSaved(t *testing.T) {
	t.Parallel()
	k := &fakeKeeper{take: func(context.Context, int) error { return fmt.Errorf("%w: file locks", ckpt.ErrDump) }}
	n := testDocker(t, k, func(c *Config) { c.Run.DetachGrace = 300 * time.Millisecond })
	e := n.agent.engines.docker
	s := container.Spec{
		ID: "left", Command: "sleep 1000", Image: "img", Limits: container.Limits{CPUs: 0.1, Shares: 0.1},
		Labels: map[string]string{labelJob: idB, labelExecution: "1", labelIncarnation: "1"},
	}
	if err := e.Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), "left"); err != nil {
		t.Fatal(err)
	}
	n.poll("it is stopped", func() bool {
		i, err := e.Inspect(t.Context(), "left")
		return err == nil && i.State == container.Exited
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.taken != stopTries {
		t.Errorf("%d tries to save it, want %d", k.taken, stopTries)
	}
}

// Where the counter of a container began that shares it with earlier ones.
func TestWhereACounterBegan(t *testing.T) {
	t.Parallel()
	box := func(n string, group string, cpu time.Duration) held {
		c := held{Info: container.Info{Labels: map[string]string{labelJob: idA, labelExecution: "2", labelIncarnation: n}}}
		c.Cgroup.CPUAcct = group
		if cpu > 0 {
			c.Exit = &container.Exit{CPU: cpu}
		}
		return c
	}
	for name, c := range map[string]struct {
		all           []held
		base, counter time.Duration
		want          time.Duration
	}{
		"the last before it tells":      {[]held{box("1", "/g", 10), box("2", "/g", 30), box("3", "/g", 0)}, 25, 50, 30},
		"another counter says nothing":  {[]held{box("1", "/other", 10)}, 25, 50, 25},
		"nobody tells":                  {nil, 25, 50, 25},
		"it never counts negative time": {nil, 25, 20, 20},
	} {
		if got := zeroOf(box("3", "/g", 0), c.all, c.base, c.counter); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// Checkpoints of a job that nobody knows wait for somebody who does, for as long as containers do; those of one that was removed do not.
func TestCheckpointsOfAJobThatNobodyKnows(t *testing.T) {
	t.Parallel()
	s, _ := openTestStore(t, t.TempDir())
	a, now := &Agent{store: s}, time.Now()
	if !a.savedElsewhere(idA, now) || !a.savedElsewhere(idA, now.Add(keepUnknown-time.Second)) || a.savedElsewhere(idA, now.Add(keepUnknown)) {
		t.Error("they are kept for too short or too long")
	}
	if err := s.remove(idB); err != nil {
		t.Fatal(err)
	}
	if a.savedElsewhere(idB, now) {
		t.Error("those of a job that was removed are kept")
	}
}

// Which containers that no job holds are saved before they are stopped.
func TestWhatIsWorthSaving(t *testing.T) {
	t.Parallel()
	tested := make(chan struct{})
	close(tested)
	docker, other := &simEngine{name: "docker"}, &simEngine{name: "process"}
	of := func(e engine, execution string) held {
		return held{container.Info{ID: "c", Labels: map[string]string{labelJob: idA, labelExecution: execution, labelIncarnation: "1"}}, e}
	}
	at := func(phase qos.Phase, execution int) qos.Status {
		return qos.Status{Phase: phase, Owner: "n1", Execution: &qos.Execution{Index: execution}}
	}
	ended := at(qos.PhaseEnded, 2)
	ended.Runs = []qos.Run{{Index: 2}}
	for name, c := range map[string]struct {
		box  held
		st   qos.Status
		want bool
	}{
		"its execution goes on elsewhere": {of(docker, "2"), at(qos.PhaseRunning, 2), true},
		"its execution is the last":       {of(docker, "3"), at(qos.PhaseRunning, 2), true},
		"a later execution runs":          {of(docker, "1"), at(qos.PhaseRunning, 2), false},
		"its execution has ended":         {of(docker, "2"), ended, false},
		"its job has ended":               {of(docker, "2"), at(qos.PhaseCompleted, 2), false},
		"a plain process":                 {of(other, "2"), at(qos.PhaseRunning, 2), false},
		"it says of no execution":         {of(docker, ""), at(qos.PhaseRunning, 2), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := openTestStore(t, t.TempDir())
			m := &table{has: qos.Record{Spec: qos.Spec{ID: idA}, Status: c.st}}
			a := &Agent{node: "n0", store: s, cluster: newCluster(m, nil), tested: tested, engines: engines{docker: docker, keeper: &fakeKeeper{}}}
			if got := a.worthSaving(c.box); got != c.want {
				t.Errorf("worth saving: %t", got)
			}
		})
	}
}
