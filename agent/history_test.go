package agent

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/qos"
)

const burner = `{"id":"/a","cmd":"while :; do :; done","cpus":0.2,"mem":32,"qos":{"duration":100,"desv_deadline":0.1,"deadline":600}}`

// awaitHistory waits until a job's history is as wanted.
func (n *node) awaitHistory(id string, ok func(api.History) bool) api.History {
	n.t.Helper()
	var h api.History
	n.await(id, "with the history that is wanted", func(api.Job) bool {
		var err error
		if h, err = n.client().History(n.t.Context(), id, time.Time{}); err != nil {
			n.t.Fatal(err)
		}
		return ok(h)
	})
	return h
}

// A job that is being restored has what its checkpoint embodies: its curve does not fall to nothing meanwhile, nor is an iteration that is in
// the tally drawn twice.
func TestACurveGoesOnWithoutAContainer(t *testing.T) {
	t.Parallel()
	now := time.Now()
	running := func(f qos.Framework) *job {
		e := &qos.Execution{Index: 2, Started: now, Deadline: now.Add(time.Hour)}
		e.Account.StartIncarnation(qos.Entry{Node: "n0", Own: 30 * time.Second})
		j := newJob(row{Record: qos.Record{Spec: qos.Spec{ID: idA, Framework: f, Submitted: now}, Status: qos.Status{Phase: qos.PhaseRunning, Execution: e}}})
		j.status().Tally.CPU = 100
		j.busy = true
		return j
	}
	for name, c := range map[string]struct {
		framework      qos.Framework
		change         func(*job)
		used, consumed float64
	}{
		"an app is restored": {qos.Marathon, func(j *job) {
			j.row.Local.Restoring, j.status().Saved = 1, &qos.Saved{Execution: 2, Sequence: 1, CPU: 20 * time.Second}
		}, 20, 30},
		"an iteration is restored": {qos.Chronos, func(j *job) {
			j.row.Local.Restoring, j.status().Saved = 1, &qos.Saved{Execution: 2, Sequence: 1, CPU: 20 * time.Second}
		}, 120, 130},
		"the next iteration is begun":  {qos.Chronos, func(j *job) { j.status().Runs = []qos.Run{{Index: 1}} }, 130, 130},
		"an iteration is in the tally": {qos.Chronos, func(j *job) { j.status().Runs = []qos.Run{{Index: 2}} }, 100, 100},
	} {
		j := running(c.framework)
		c.change(j)
		a := &Agent{cfg: Default(), jobs: &jobs{byID: map[string]*job{idA: j}}}
		a.observe(j, qos.Decision{}, now.Add(time.Second))
		v := j.history.View(idA, time.Time{})
		if len(v.Used) != 1 || float64(v.Used[0]) != c.used || float64(v.Consumed[0]) != c.consumed {
			t.Errorf("%s: used %v, consumed %v; want %g and %g", name, v.Used, v.Consumed, c.used, c.consumed)
		}
	}
}

func TestAHistorySurvivesARestart(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, burner)
	n.claim(idA, "t1")
	before := n.awaitHistory(idA, func(h api.History) bool { return len(h.At) >= 5 && h.Used[len(h.At)-1] > 0 })
	n.end()
	n.begin()
	after := n.awaitHistory(idA, func(h api.History) bool { return len(h.At) > len(before.At)+2 })
	if !slices.Equal(after.At[:len(before.At)], before.At) || !slices.Equal(after.Used[:len(before.At)], before.Used) || !slices.Equal(after.Allocation[:len(before.At)], before.Allocation) {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	last := len(after.At) - 1
	if after.State[last] == "" || after.Desired[last] <= 0 || after.Ratio[last] <= 0 || after.Allocation[last] <= 0 || after.Index[last] != 1 || after.Margin[last] == 0 {
		t.Errorf("last reading of %+v", after)
	}
	phases := []qos.Phase{}
	for _, c := range after.Changes {
		phases = append(phases, c.Phase)
	}
	if !slices.Equal(phases, []qos.Phase{qos.PhaseSubmitted, qos.PhasePending, qos.PhaseRunning}) {
		t.Errorf("phases %v", phases)
	}
	if c := after.Changes[2]; c.Node != "testnode" || c.Index != 1 || c.Incarnation != 1 {
		t.Errorf("change %+v", c)
	}
	only, err := n.client().History(t.Context(), idA, time.UnixMilli(after.At[last-1]))
	if err != nil || len(only.At) == 0 || only.At[0] != after.At[last] {
		t.Errorf("after the last but one: %v, %v", only.At, err)
	}
}

func TestTheHistoryOfAJobThatHasEndedIsInTheStoreAlone(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, `{"name":"series","command":"echo run","schedule":"R3//PT1M","cpus":0.5,"mem":32,"qos":{"duration":1,"desv_deadline":0.2,"deadline":60}}`)
	s, _ := n.claim(idA, "ct:1:0:series:")
	n.read(s, "ct:1:0:series:")
	n.await(idA, "completed", inPhase(qos.PhaseCompleted))
	n.end()
	n.begin()
	j := n.agent.jobs.get(idA)
	j.mu.Lock()
	inMemory := j.history != nil
	j.mu.Unlock()
	h, err := n.client().History(t.Context(), idA, time.Time{})
	if err != nil || inMemory || len(h.Runs) != 3 || h.Runs[0].Outcome != qos.Done || h.Runs[2].Seconds < 0 || h.Changes[len(h.Changes)-1].Phase != qos.PhaseCompleted {
		t.Errorf("in memory: %t; %+v, %v", inMemory, h, err)
	}
	if b, err := n.agent.store.history(idA); err != nil || b == nil {
		t.Errorf("stored: %d bytes, %v", len(b), err)
	}
	n.agent.forget(j)
	if b, err := n.agent.store.history(idA); err != nil || b != nil {
		t.Errorf("of a forgotten job %d bytes are left, %v", len(b), err)
	}
}

func TestAHistoryThatCannotBeWrittenIsTriedAgain(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, burner)
	n.end()
	a := n.agent // its store is closed
	j := a.jobs.get(idA)
	j.history.Again()
	a.keepHistories(time.Now(), true)
	if !j.history.Fresh() {
		t.Error("what was not written counts as written")
	}
}

func TestAHistoryGoesToTheNextOwner(t *testing.T) {
	t.Parallel()
	keepers := [2]*fakeKeeper{{}, {}}
	c := startCluster(t, 2, func(i int, n *node) { n.keeper = keepers[i] })
	a, b := c.nodes[0], c.nodes[1]
	a.submit(idA, dockerJob("while :; do :; done"))
	_, _ = c.claimAt(a, idA, "t1")
	before := a.awaitHistory(idA, func(h api.History) bool { return len(h.At) >= 3 })
	_, _ = c.claimAt(b, idA, "t2")
	c.until("one node has the job", func() bool { return a.agent.jobs.get(idA) == nil && b.agent.jobs.get(idA) != nil })
	after := b.awaitHistory(idA, func(h api.History) bool {
		return len(h.At) > len(before.At) && h.Changes[len(h.Changes)-1].Incarnation == 2
	})
	if after.At[0] != before.At[0] || !after.Since.Equal(before.Since) {
		t.Errorf("it began at %d with %v, now at %d with %v", before.At[0], before.Since, after.At[0], after.Since)
	}
	if last := after.Changes[len(after.Changes)-1]; last.Node != "n1" || after.Changes[0].Node != "n0" && after.Changes[1].Node != "n0" {
		t.Errorf("changes %+v", after.Changes)
	}
	if passed, err := a.client().History(t.Context(), idA, time.Time{}); err != nil || passed.At[0] != before.At[0] { // from its owner
		t.Errorf("asked elsewhere: %+v, %v", passed, err)
	}
	if first := nextEvent[api.JobNews](t, stream(t, a.agent.adminRoutes(), "/v1/jobs/"+idA+"/events"), "job"); !first.First || first.Job.Owner != "n1" || len(first.History.At) == 0 {
		t.Errorf("streamed elsewhere: %+v", first)
	}
	if kept, err := a.agent.store.history(idA); err != nil || kept != nil {
		t.Errorf("the former owner keeps %d bytes, %v", len(kept), err)
	}
	if _, err := b.client().Cancel(t.Context(), idA); err != nil {
		t.Fatal(err)
	}
	b.await(idA, "cancelled", inPhase(qos.PhaseCancelled))
}

// stream reads events from an agent's handler.
func stream(t *testing.T, h http.Handler, path string) *bufio.Scanner {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r) //nolint:bodyclose // at the end of the test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if kind := resp.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Fatalf("%s answers %d, %s", path, resp.StatusCode, kind)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	return lines
}

// nextEvent decodes the next one.
func nextEvent[T any](t *testing.T, lines *bufio.Scanner, kind string) (v T) {
	t.Helper()
	for was := ""; lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			was = name
		}
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			if err := json.Unmarshal([]byte(data), &v); err != nil || was != kind {
				t.Fatalf("event %s: %v", was, err)
			}
			return v
		}
	}
	t.Fatalf("the stream has ended: %v", lines.Err())
	return v
}

func TestTheStreamOfAJobTellsWhatIsNew(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, burner)
	n.claim(idA, "t1")
	n.awaitHistory(idA, func(h api.History) bool { return len(h.At) >= 3 })
	lines := stream(t, n.agent.adminRoutes(), "/v1/jobs/"+idA+"/events")
	first := nextEvent[api.JobNews](t, lines, "job")
	if !first.First || len(first.History.At) < 3 || len(first.Decisions) < 3 || len(first.Events) < 3 || first.Job.ID != idA {
		t.Errorf("first %+v", first)
	}
	have := first.History.At[len(first.History.At)-1]
	for got := 0; got < 2; {
		next := nextEvent[api.JobNews](t, lines, "job")
		if next.First || next.History.Runs != nil {
			t.Errorf("next %+v", next)
		}
		for _, at := range next.History.At {
			if at <= have {
				t.Errorf("reading %d again, after %d", at, have)
			}
			have = at
			got++
		}
	}
	if _, err := n.client().Cancel(t.Context(), idA); err != nil {
		t.Fatal(err)
	}
	for next := (api.JobNews{}); next.Job.Phase != qos.PhaseCancelled; {
		next = nextEvent[api.JobNews](t, lines, "job")
	}
}

func TestTheStreamOfTheClusterTellsWhatHasChanged(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, burner)
	n.submit(idB, strings.Replace(burner, "/a", "/b", 1))
	lines := stream(t, n.agent.adminRoutes(), "/v1/events")
	first := nextEvent[api.ClusterNews](t, lines, "cluster")
	if !first.First || len(first.Jobs) != 2 || len(first.Nodes.Nodes) != 1 || first.Node != "testnode" {
		t.Errorf("first %+v", first)
	}
	if _, err := n.client().Cancel(t.Context(), idB); err != nil {
		t.Fatal(err)
	}
	for {
		next := nextEvent[api.ClusterNews](t, lines, "cluster")
		for _, raw := range next.Jobs {
			if !strings.Contains(string(raw), idB) {
				t.Errorf("of a job that did not change: %s", raw)
			}
		}
		if slices.Equal(next.Gone, []string{idB}) {
			return
		}
	}
}

func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, burner)
	for range maxViewers {
		n.agent.viewers <- struct{}{}
	}
	for _, path := range []string{"/v1/events", "/v1/jobs/" + idA + "/events"} {
		if status, e := request(t, n.agent.adminRoutes(), "GET", path, "", nil); status != 429 || e.Code != codeBusy {
			t.Errorf("%s: %d %+v", path, status, e)
		}
	}
	<-n.agent.viewers
	nextEvent[api.ClusterNews](t, stream(t, n.agent.adminRoutes(), "/v1/events"), "cluster")
}
