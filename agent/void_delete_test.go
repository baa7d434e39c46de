package agent

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"qosctl/qos"
)

// table is one that settled long ago, and has one job.
type table struct {
	mesh

	unsettled bool

	mu      sync.Mutex
	has     qos.Record
	removed []string
}

func (m *table) Put(r qos.Record) (qos.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.has.Spec, m.has.Status = r.Spec, m.has.Status.Merge(r.Status)
	return m.has, nil
}

func (m *table) Get(string) (qos.Record, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.has, true
}

func (*table) Removed(string) bool { return false }

func (m *table) Settled() bool { return !m.unsettled }

func (m *table) Remove(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.removed = append(m.removed, id)
	return nil
}

// lookPort does something while it is asked for a job.
type lookPort struct {
	*fakePort
	meanwhile func()
}

func (p *lookPort) Look(ctx context.Context, spec qos.Spec) (sight, error) {
	p.meanwhile()
	return p.fakePort.Look(ctx, spec)
}

// The removal of a job that one node has seen end, told by a duty that counts for itself, does not remove it where it goes on at a later
// epoch; a job that is over in the row that is looked at is removed.
func TestARemovalHoldsForTheRowThatItWasDecidedOn(t *testing.T) {
	t.Parallel()
	at := func(owner string, epoch uint64, phase qos.Phase) qos.Record {
		return qos.Record{Spec: qos.Spec{ID: idA, Name: "/a", Framework: qos.Marathon}, Status: qos.Status{
			Phase: phase, Owner: owner, Epoch: epoch, Execution: &qos.Execution{Index: 2},
		}}
	}
	due := func(r qos.Record, by string, duty uint64) qos.Record {
		r.Status.Steward.Duty, r.Status.Steward.By, r.Status.Steward.Pending = duty, by, qos.ActDelete
		return r
	}
	cancelled := due(at("n0", 5, qos.PhaseSuspended), "n1", 9)
	cancelled.Status.Intent = qos.IntentCancel
	for name, c := range map[string]struct {
		mine, heard, meanwhile *qos.Record
		kept                   bool
	}{
		"it goes on at a later epoch, and rests":    {mine: new(at("n0", 5, qos.PhaseSuspended)), heard: new(due(at("n1", 4, qos.PhaseCompleted), "n1", 9)), kept: true},
		"it has completed":                          {mine: new(due(at("n0", 5, qos.PhaseCompleted), "n0", 3))},
		"it is cancelled":                           {mine: new(at("n0", 5, qos.PhaseSuspended)), heard: &cancelled},
		"it goes on elsewhere since it was decided": {mine: new(due(at("n0", 5, qos.PhaseCompleted), "n0", 3)), meanwhile: new(at("n1", 6, qos.PhaseRunning)), kept: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, wg := &table{has: *c.mine}, sync.WaitGroup{}
			s, _ := openTestStore(t, t.TempDir())
			a := &Agent{
				node: "n0", log: slog.New(slog.DiscardHandler), store: s, cluster: newCluster(m, nil), jobs: &jobs{byID: map[string]*job{}},
				kickSteward: make(chan struct{}, 1),
			}
			a.spawn = func(f func(context.Context)) { wg.Go(func() { f(t.Context()) }) }
			look := &lookPort{newFakePort(), func() {
				if c.meanwhile != nil {
					_, _ = m.Put(*c.meanwhile)
				}
			}}
			look.jobs["/a"] = idA
			a.ports = map[qos.Framework]port{qos.Marathon: look}
			j := newJob(row{Record: *c.mine})
			a.jobs.add(j)
			if c.heard != nil {
				a.peerChanged(*c.heard)
			}
			if err := a.tend(t.Context(), j, time.Now()); err != nil {
				t.Fatal(err)
			}
			wg.Wait()
			if look.has("/a") != c.kept {
				t.Errorf("the app is there: %t, want %t", look.has("/a"), c.kept)
			}
			j.mu.Lock()
			defer j.mu.Unlock()
			if c.kept && c.heard != nil && j.steward().Pending != qos.ActNone {
				t.Errorf("%s is still to be done", j.steward().Pending)
			}
		})
	}
}

// A node that comes back after a week with a job that it brought to its end does not have it forgotten everywhere while it goes on elsewhere.
func TestAnEndedJobIsForgottenOnlyIfItGoesOnNowhere(t *testing.T) {
	t.Parallel()
	now := time.Now()
	at := func(owner string, epoch uint64, phase qos.Phase) qos.Record {
		return qos.Record{Spec: qos.Spec{ID: idA, Name: "/a"}, Status: qos.Status{Phase: phase, Owner: owner, Epoch: epoch, Ended: now.Add(-keepEnded - time.Hour)}}
	}
	for name, c := range map[string]struct {
		has       qos.Record
		rival     *rival
		unsettled bool
		gone      bool
	}{
		"it has ended":                        {has: at("n0", 5, qos.PhaseCompleted), gone: true},
		"it is not known yet what peers know": {has: at("n0", 5, qos.PhaseCompleted), unsettled: true},
		"another has claimed it":              {has: at("n1", 9, qos.PhaseRunning)},
		"a claim is being looked into":        {has: at("n0", 5, qos.PhaseCompleted), rival: &rival{Record: at("n1", 9, qos.PhaseRunning)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &table{has: c.has, unsettled: c.unsettled}
			s, _ := openTestStore(t, t.TempDir())
			a := &Agent{node: "n0", log: slog.New(slog.DiscardHandler), store: s, cluster: newCluster(m, nil), jobs: &jobs{byID: map[string]*job{}}}
			j := newJob(row{Record: at("n0", 5, qos.PhaseCompleted)})
			j.rival = c.rival
			a.jobs.add(j)
			a.expire(now)
			if gone := a.jobs.get(idA) == nil; gone != c.gone || (len(m.removed) > 0) != c.gone {
				t.Errorf("forgotten here: %t, everywhere: %v, want %t", gone, m.removed, c.gone)
			}
		})
	}
}
