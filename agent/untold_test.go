package agent

import (
	"log/slog"
	"testing"
	"time"

	"qosctl/qos"
)

// telling is a table that only notes what it is told.
type telling struct {
	mesh

	told []qos.Record
}

func (m *telling) Put(r qos.Record) (qos.Record, error) {
	m.told = append(m.told, r)
	return r, nil
}

// A step that could not be written is told when it is written at last.
func TestAStepThatCouldNotBeWrittenIsToldLater(t *testing.T) {
	t.Parallel()
	dir, m := t.TempDir(), &telling{}
	s, _ := openTestStore(t, dir)
	a := &Agent{node: "n0", log: slog.New(slog.DiscardHandler), store: s, cluster: newCluster(m, nil)}
	j := newJob(row{Record: qos.Record{Spec: qos.Spec{ID: idA, Name: "/a"}, Status: qos.Status{Phase: qos.PhaseRunning, Owner: "n0", Epoch: 1}}})
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	j.mu.Lock()
	if err := j.enter(qos.PhaseSuspended, time.Now(), "it has a checkpoint"); err != nil {
		t.Fatal(err)
	}
	err := a.save(j)
	j.mu.Unlock()
	if err == nil || len(m.told) != 0 {
		t.Fatalf("%v; told before it is on disk: %v", err, m.told)
	}
	a.store, _ = openTestStore(t, dir)
	a.saveAll([]*job{j})
	a.saveAll([]*job{j})
	if len(m.told) != 1 || m.told[0].Status.Phase != qos.PhaseSuspended || m.told[0].Status.Seq != 1 {
		t.Errorf("told %+v, want that it is suspended, once", m.told)
	}
}
