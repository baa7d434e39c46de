package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/framework"
	"qosctl/qos"
)

const (
	sleeper  = `{"id":"/long","cmd":"sleep 1000","cpus":0.2,"mem":32,"qos":{"duration":100,"desv_deadline":0.1,"deadline":600}}`
	shortRun = `{"id":"/x","cmd":"true","cpus":0.2,"mem":32,"qos":{"duration":1,"desv_deadline":0.1,"deadline":60,"executions":1}}`
)

// stays looks for d whether what must not change does.
func stays(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	end, tick := time.NewTimer(d), time.NewTicker(20*time.Millisecond)
	defer end.Stop()
	defer tick.Stop()
	for {
		if !ok() {
			t.Errorf("not any more: %s", what)
			return
		}
		select {
		case <-end.C:
			return
		case <-tick.C:
		}
	}
}

// comes waits until something is so.
func comes(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end, tick := time.NewTimer(30*time.Second), time.NewTicker(10*time.Millisecond)
	defer end.Stop()
	defer tick.Stop()
	for !ok() {
		select {
		case <-end.C:
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

// set changes what the framework in memory knows and does.
func (p *fakePort) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// unavailable is an answer that leaves open whether the request was carried out.
func unavailable() error {
	return &framework.Error{Framework: "marathon", Method: "POST", Path: "/v2/apps", Status: 502, Uncertain: true, Kind: framework.ErrUnavailable}
}

// A submission that failed in doubt does not delete what somebody else has by that name.
func TestDoubtfulSubmissionLeavesAForeignAppAlone(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.port.set(func() { n.port.jobs["/long"], n.port.fail = "somebody else's", unavailable() })
	if _, err := n.client().Submit(t.Context(), api.SubmitRequest{ID: idA, File: json.RawMessage(sleeper)}); err == nil {
		t.Fatal("submitted")
	}
	n.port.set(func() { n.port.fail = nil })
	comes(t, "settled", func() bool { return n.agent.jobs.holder(qos.Marathon, "/long") == nil })
	stays(t, 500*time.Millisecond, "the app of somebody else is there", func() bool { return n.port.has("/long") })
}

// A deletion whose answer was lost does not hit the app that was submitted by the same name since.
func TestRepeatedDeletionLeavesTheNextJobAlone(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, shortRun)
	n.port.set(func() { n.port.fail = unavailable() })
	s, _ := n.claim(idA, "t1")
	n.read(s, "t1")
	n.await(idA, "deleted, as far as the framework goes", func(api.Job) bool { return !n.port.has("/x") })
	n.port.set(func() { n.port.fail = nil })
	n.submit(idB, shortRun)
	stays(t, 3*time.Second, "the new job and its app are there", func() bool {
		v, err := n.client().Job(t.Context(), idB)
		return err == nil && !v.Phase.Terminal() && n.port.has("/x")
	})
}

// A submission that was refused is not handed in again by a steward that had the job in its hands.
func TestRefusedSubmissionIsNotHandedInAgain(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	j := newJob(row{Record: qos.Record{Spec: qos.Spec{ID: idA, Name: "/refused", Framework: qos.Marathon, CPUs: 0.1}, Status: qos.Status{Phase: qos.PhaseSubmitted}}})
	j.steward().Pending = qos.ActSubmit
	n.agent.withdraw(j, &framework.Error{Kind: framework.ErrInvalid, Status: 422})
	if err := n.agent.tend(t.Context(), j, time.Now()); err != nil {
		t.Error(err)
	}
	if err := n.agent.hand(t.Context(), j); !errors.Is(err, errWithdrawn) {
		t.Errorf("handed in: %v", err)
	}
	if n.port.has("/refused") {
		t.Error("the refused job was submitted")
	}
}

// fragile is a framework that the store breaks down behind, once it has created a job.
type fragile struct {
	*fakePort
	broken func()
}

func (f fragile) Create(ctx context.Context, s qos.Spec, b json.RawMessage) error {
	defer f.broken()
	return f.fakePort.Create(ctx, s, b)
}

// A submission that the framework has taken is not refused because it can't be written down at once.
func TestTakenSubmissionIsNotRefused(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.restart(time.Hour, map[qos.Framework]port{qos.Marathon: fragile{n.port, func() { _ = n.agent.store.close() }}})
	if _, err := n.client().Submit(t.Context(), api.SubmitRequest{ID: idA, File: json.RawMessage(sleeper)}); err != nil {
		t.Error(err)
	}
	if n.agent.jobs.get(idA) == nil {
		t.Error("the job is not known")
	}
}

// exists is a framework that took a submission whose answer was lost.
type exists struct{ *fakePort }

func (e exists) Create(ctx context.Context, s qos.Spec, b json.RawMessage) error {
	_ = e.fakePort.Create(ctx, s, b)
	return &framework.Error{Method: "POST", Status: 409, Kind: framework.ErrExists}
}

// A submission that is made once more finds what the former one left, whose secret stays good.
func TestHandedInTwice(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.restart(time.Hour, map[qos.Framework]port{qos.Marathon: exists{n.port}})
	n.submit(idA, sleeper)
	j := n.agent.jobs.get(idA)
	former := n.port.secrets[idA]
	j.mu.Lock()
	j.steward().Pending = qos.ActSubmit
	j.mu.Unlock()
	if err := n.agent.hand(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	l := j.steward()
	if !knows(*l, former) || !knows(*l, n.port.secrets[idA]) || knows(*l, "another") || knows(*l, "") {
		t.Error("not just the secrets of both submissions are good")
	}
	for range 9 {
		j.admits(newSecret())
	}
	if len(l.Secrets) != maxSecrets+1 || knows(*l, former) {
		t.Errorf("%d secrets are kept", len(l.Secrets))
	}
}

// parent is a framework in which other jobs depend on each.
type parent struct{ *fakePort }

func (parent) Parent(context.Context, string) (bool, error) { return true, nil }

// unready is a framework that can't be given any job.
type unready struct{ *fakePort }

func (unready) Prepare(context.Context, qos.Spec, string) (json.RawMessage, []string, error) {
	return nil, nil, errors.New("not ready")
}

// What could not be submitted replaces nothing.
func TestReplaceKeepsTheOldOneWhenItCannotWork(t *testing.T) {
	t.Parallel()
	for name, wrap := range map[string]func(*fakePort) port{
		"others depend on it":      func(p *fakePort) port { return parent{p} },
		"the new one is not ready": func(p *fakePort) port { return unready{p} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := testNode(t, nil)
			n.submit(idA, sleeper)
			n.restart(100*time.Millisecond, map[qos.Framework]port{qos.Marathon: wrap(n.port)})
			if _, err := n.client().Submit(t.Context(), api.SubmitRequest{ID: idB, File: json.RawMessage(sleeper), Replace: true}); err == nil {
				t.Error("replaced")
			}
			if p := n.agent.jobs.get(idA).phase(); p.Terminal() || !n.port.has("/long") {
				t.Errorf("the old job is %s", p)
			}
		})
	}
}

// Of jobs that are submitted under one name at once, at most one is there at any time.
func TestReplacesAtOnce(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, sleeper)
	c := n.client()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			id := fmt.Sprintf("%08d-0000-4000-8000-000000000000", i)
			_, err := c.Submit(t.Context(), api.SubmitRequest{ID: id, File: json.RawMessage(sleeper), Replace: true})
			t.Logf("%s: %v", id, err)
		})
	}
	wg.Wait()
	var alive []string
	for _, j := range n.agent.jobs.all() {
		if j.holds() {
			alive = append(alive, j.spec().ID)
		}
	}
	n.port.mu.Lock()
	defer n.port.mu.Unlock()
	if len(alive) != 1 || n.port.jobs["/long"] != alive[0] {
		t.Errorf("jobs %v, in the framework %s", alive, n.port.jobs["/long"])
	}
}

// A cancel that can't be written down is refused, and changes nothing.
func TestCancelThatIsNotWrittenDown(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, sleeper)
	n.end()
	a := n.unsettled()
	if err := a.store.close(); err != nil {
		t.Fatal(err)
	}
	j := a.jobs.get(idA)
	if err := a.cancel(j); err == nil || j.status().Phase != qos.PhasePending || j.status().Intent != qos.IntentNone || j.steward().Pending != qos.ActNone {
		t.Errorf("%v; the job is %s, its intent %q, its duty %q", err, j.status().Phase, j.status().Intent, j.steward().Pending)
	}
}

// What a peer has learnt of a name counts when a job by it is handed in: that it can't be in time is said at once, with when it could be.
func TestADeadlineThatCannotBeMetIsNamedAtOnce(t *testing.T) {
	t.Parallel()
	n := testNode(t, func(c *Config) { c.Control.CPUs = 2 })
	var m qos.Model
	m.Observe(1000, 1, 1000) // 750 s at two CPUs, and 600 are allowed
	n.agent.hearModel(qos.Record{Spec: qos.Spec{Framework: qos.Marathon, Name: "/long"}, Status: qos.Status{Model: &m}})
	strict := api.SubmitRequest{ID: idA, File: json.RawMessage(sleeper), Strict: true}
	if _, err := n.client().Submit(t.Context(), strict); err == nil || n.port.has("/long") {
		t.Errorf("strict: %v", err)
	}
	r, err := n.client().Submit(t.Context(), api.SubmitRequest{ID: idA, File: json.RawMessage(sleeper)})
	if err != nil || len(r.Warnings) != 1 {
		t.Fatalf("%+v, %v", r.Warnings, err)
	}
	if w := r.Warnings[0]; w.Path != "$.qos.deadline" || !strings.Contains(w.Text, "infeasible: 1 × (750.0 s at 2 CPUs") || !strings.Contains(w.Text, "the earliest deadline that could be met is ") {
		t.Errorf("%+v", w)
	}
}
