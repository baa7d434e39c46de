package agent

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"qosctl/container"
	"qosctl/qos"
)

// ahead is a table that has something newer of a job than what it is told at first.
type ahead struct {
	mesh

	has qos.Record
}

func (m *ahead) Put(r qos.Record) (qos.Record, error) {
	if !m.has.Status.Newer(r.Status) {
		m.has = r
	}
	return m.has, nil
}

func (m *ahead) Whole(string) (qos.Record, bool) { return m.has, true }

// What the table had heard of a job before this node had it counts, though nothing tells of it again.
func TestWhatWasHeardOfAJobBeforeItWasTaken(t *testing.T) {
	t.Parallel()
	at := func(owner string, epoch, seq uint64) qos.Record {
		return qos.Record{Spec: qos.Spec{ID: idA, Name: "/a"}, Status: qos.Status{Phase: qos.PhasePending, Owner: owner, Epoch: epoch, Seq: seq}}
	}
	for name, c := range map[string]struct {
		had   qos.Record
		keeps bool
	}{
		"in a life of this node that it has forgotten": {at("n0", 4, 7), true},
		"as another's": {at("n1", 4, 7), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, wg := &ahead{has: c.had}, sync.WaitGroup{}
			s, _ := openTestStore(t, t.TempDir())
			a := &Agent{node: "n0", log: slog.New(slog.DiscardHandler), store: s, cluster: newCluster(m, nil), jobs: &jobs{byID: map[string]*job{}}}
			a.spawn = func(f func(context.Context)) { wg.Go(func() { f(t.Context()) }) }
			j := newJob(row{Record: at("", 1, 0)})
			a.jobs.add(j)
			j.mu.Lock()
			j.status().Owner = "n0"
			err := a.save(j)
			j.mu.Unlock()
			wg.Wait()
			has, kept := m.has.Status, a.jobs.get(idA) != nil
			if err != nil || kept != c.keeps || kept && (has.Owner != "n0" || has.Epoch != 4 || has.Seq <= 7) {
				t.Errorf("%v; it is kept: %t, and told as %s's at %d.%d", err, kept, has.Owner, has.Epoch, has.Seq)
			}
		})
	}
}

// A node that has lost its store and sees none of its peers knows nothing of a job that a task brings: it is not begun anew there.
func TestJepsenANodeThatHasMetNobody(t *testing.T) {
	scene(t, func(s *stage) {
		had, to := s.box, s.other()
		s.mu.Lock()
		s.master.still = true
		s.master.terminate(s.master.apps[s.job.name].task)
		s.mu.Unlock()
		if !s.until(time.Minute, "it is suspended", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return had.State == container.Exited }) {
			return
		}
		s.cut(s.rest(to)[1:]) // it reaches the master
		to.kill()
		to.wipe()
		to.boot()
		s.mu.Lock()
		s.master.apps[s.job.name].hosts = []string{to.name}
		s.master.still = false
		s.mu.Unlock()
		pause(context.Background(), time.Minute)
		s.want(!s.look(2), "it is begun anew")
		s.cut()
		if s.until(time.Minute, "it goes on", func() bool { return s.look(2) }) {
			s.want(s.box.node == to.name && s.box.base == had.kernel, "it goes on from %v on %s, not from %v", s.box.base, s.box.node, had.kernel)
			s.settle()
		}
	})
}
