package agent

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"qosctl/agent/thesis"
	"qosctl/framework/mesos"
	"qosctl/qos"
)

const (
	launchedChronos  = "7986712f-445b-4902-b0d6-b857d4812440" // of the bodies in testdata
	launchedMarathon = "0b8c29a1-f3de-4c0f-9d6a-1f2e3d4c5b6a"
)

// oldNode is an agent that speaks the thesis' protocol, and what is asked of it over the network.
func oldNode(t *testing.T) (*node, http.Handler) {
	t.Helper()
	n := testNode(t, func(c *Config) {
		c.Mesos.URL, c.Mesos.Poll = "http://127.0.0.1:1", 50*time.Millisecond // nobody there
		c.Frameworks = map[string]FrameworkConfig{"m": {Type: "marathon", URLs: []string{"http://127.0.0.1:1"}, Timeout: time.Second, Poll: time.Second}}
		c.Thesis = ThesisConfig{Enabled: true, From: []string{"192.0.2.0/24"}}
	})
	return n, n.agent.withThesis(n.agent.guard(n.agent.adminRoutes()))
}

// old posts a body of package thesis as the launcher, its jobs and shell_trap do.
func old(t *testing.T, h http.Handler, route, body string, change func(*http.Request)) (int, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, route, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.RemoteAddr, r.Host = "192.0.2.7:4711", "supervisor.lab:30000" // whatever name they know it by
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func sent(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("thesis/testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Who may not, and what is no body, is refused; nothing else of the API is opened by it; switched off there is no such route.
func TestTheOldProtocolIsForFew(t *testing.T) {
	t.Parallel()
	n, h := oldNode(t)
	body := sent(t, "initTask-marathon")
	for name, c := range map[string]struct {
		route, body string
		change      func(*http.Request)
		want        int
	}{
		"another network":   {thesis.InitTask, body, func(r *http.Request) { r.RemoteAddr = "198.51.100.1:1" }, http.StatusForbidden},
		"a page":            {thesis.InitTask, body, func(r *http.Request) { r.Header.Set("Origin", "http://supervisor.lab:30000") }, http.StatusForbidden},
		"a form":            {thesis.InitTask, body, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, http.StatusUnprocessableEntity},
		"a large body":      {thesis.InitTask, `{"x":"` + strings.Repeat("x", thesis.MaxBody) + `"}`, nil, http.StatusUnprocessableEntity},
		"something behind":  {thesis.UpdateTask, sent(t, "updateTask") + "{}", nil, http.StatusUnprocessableEntity},
		"depth":             {thesis.UpdateTask, `{"x":` + strings.Repeat("[", thesis.MaxBody-10), nil, http.StatusUnprocessableEntity},
		"no body":           {thesis.UpdateTask, "", nil, http.StatusUnprocessableEntity},
		"an unknown job":    {thesis.UpdateTask, sent(t, "updateTask"), nil, http.StatusNotFound},
		"a deadline past":   {thesis.InitTask, sent(t, "initTask-chronos"), nil, http.StatusUnprocessableEntity},
		"another route":     {"/v1/jobs", body, nil, http.StatusForbidden},
		"reading":           {thesis.InitTask, body, func(r *http.Request) { r.Method, r.Host = http.MethodGet, "127.0.0.1" }, http.StatusNotFound},
		"an address mapped": {thesis.UpdateTask, sent(t, "updateTask"), func(r *http.Request) { r.RemoteAddr = "[::ffff:192.0.2.7]:1" }, http.StatusNotFound},
	} {
		if status, answer := old(t, h, c.route, c.body, c.change); status != c.want {
			t.Errorf("%s: %d, want %d: %s", name, status, c.want, answer)
		}
	}
	for _, route := range []string{thesis.InitTask, thesis.UpdateTask, thesis.InitMarathonApp, thesis.EndMarathonApp} {
		for who, change := range map[string]func(*http.Request){
			"a network that is not named": func(r *http.Request) { r.RemoteAddr = "198.51.100.1:1" },
			"a network that is not named, with an operator's pass": func(r *http.Request) {
				r.RemoteAddr = "198.51.100.1:1"
				r.Header.Set("Authorization", "Bearer "+operatorToken)
			},
			"a page": func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") },
		} {
			if status, answer := old(t, h, route, body, change); status != http.StatusForbidden {
				t.Errorf("%s by %s: %d: %s", route, who, status, answer)
			}
		}
		if status, answer := old(t, h, route, body, nil); status == http.StatusForbidden {
			t.Errorf("%s by who may: %d: %s", route, status, answer)
		}
	}
	n.agent.cfg.Thesis.Enabled = false
	off := n.agent.withThesis(n.agent.guard(n.agent.adminRoutes()))
	if status, answer := old(t, off, thesis.InitTask, body, func(r *http.Request) { r.Host = "127.0.0.1" }); status != http.StatusForbidden {
		t.Errorf("switched off: %d: %s", status, answer)
	}
}

// Strangers who knock at it leave some lines of the audit, and not one for each.
func TestWhoMayNotUseTheOldProtocolDoesNotFillTheLog(t *testing.T) {
	t.Parallel()
	n, _ := oldNode(t)
	log := &syncBuffer{}
	n.agent.log = slog.New(slog.NewTextHandler(log, nil))
	h := n.agent.withThesis(n.agent.guard(n.agent.adminRoutes()))
	for range 3 * strangersEach {
		old(t, h, thesis.InitTask, "{}", func(r *http.Request) { r.RemoteAddr = "198.51.100.1:1" })
	}
	if lines := strings.Count(log.String(), "msg=audit"); lines == 0 || lines > 2*strangersEach { // twice: the time may end in between
		t.Errorf("%d lines of %d refusals", lines, 3*strangersEach)
	}
}

// noted is a body that notes whether its connection counts as one that waits for its client while it is read.
type noted struct {
	io.Reader
	conn  *gateConn
	waits bool
}

func (b *noted) Read(p []byte) (int, error) {
	b.conn.gate.mu.Lock()
	b.waits = b.conn.inAll != nil
	b.conn.gate.mu.Unlock()
	return b.Reader.Read(p)
}

// A body of the old protocol is read like any other: whoever sends one slowly makes room for others.
func TestABodyOfTheOldProtocolIsWaitedForLikeAnyOther(t *testing.T) {
	t.Parallel()
	_, h := oldNode(t)
	for _, route := range []string{thesis.InitTask, thesis.UpdateTask, thesis.InitMarathonApp, thesis.EndMarathonApp} {
		g := newGate(newPipes(), networkBounds)
		c, _ := g.admit(nil, "192.0.2.7")
		c.serve()
		body := &noted{Reader: strings.NewReader(sent(t, "updateTask")), conn: c}
		old(t, h, route, "", func(r *http.Request) {
			*r = *r.WithContext(context.WithValue(r.Context(), gateKey{}, c))
			r.Body = io.NopCloser(body)
		})
		if !body.waits || c.inAll != nil {
			t.Errorf("%s: waits while it is read: %t, and afterwards: %t", route, body.waits, c.inAll != nil)
		}
	}
}

// An announced job is taken up when its framework has it, and not one of the same name that is somebody else's.
func TestAnAnnouncedJobIsTakenUpWhenItIsThere(t *testing.T) {
	t.Parallel()
	n, h := oldNode(t)
	put := func(id string) {
		n.port.mu.Lock()
		defer n.port.mu.Unlock()
		n.port.jobs["/openmplinpack1"] = id
	}
	put("") // an app that nobody has launched
	body := sent(t, "initTask-marathon")
	for range 2 {
		if status, answer := old(t, h, thesis.InitTask, body, nil); status != http.StatusOK || answer != thesis.Answer([]byte(body)) {
			t.Fatalf("%d: %s", status, answer)
		}
	}
	if n.agent.jobs.count() != 0 {
		t.Fatal("a job of the name was taken that the launcher has not handed in")
	}
	put(launchedMarathon)
	for tries := 0; n.agent.jobs.get(launchedMarathon) == nil; tries++ {
		if !pause(t.Context(), 20*time.Millisecond) || tries > 1500 {
			t.Fatal("not taken up")
		}
	}
	j := n.agent.show(n.agent.jobs.get(launchedMarathon), true)
	if j.Name != "/openmplinpack1" || j.Phase != qos.PhasePending || j.QoS.Duration != 400 || j.QoS.Deadline.After != 480*time.Second || j.QoS.Deviation != 0.1 {
		t.Errorf("%+v", j)
	}
	if status, answer := old(t, h, thesis.InitTask, body, nil); status != http.StatusOK {
		t.Errorf("told again: %d: %s", status, answer)
	}
	if status, _ := old(t, h, thesis.UpdateTask, strings.Replace(sent(t, "updateTask"), thesis.Plain(launchedChronos), thesis.Plain(launchedMarathon), 1), nil); status != http.StatusUnprocessableEntity {
		t.Errorf("a Marathon job that ends an iteration: %d", status)
	}
	n.submit(idA, `{"id":"/ours","cmd":"sleep 1","cpus":0.1,"mem":32,"qos":{"duration":1,"desv_deadline":0.1,"deadline":60}}`)
	ours := `{"uuid":"` + idA + `","started_at":1,"finished_at":"2"}`
	for _, route := range []string{thesis.InitMarathonApp, thesis.EndMarathonApp, thesis.UpdateTask} {
		if status, answer := old(t, h, route, ours, nil); status != http.StatusNotFound {
			t.Errorf("%s of a job that the launcher has not handed in: %d: %s", route, status, answer)
		}
	}
}

// launchedJob is one that the launcher has handed in, in no registry.
func launchedJob(id string, f qos.Framework) *job {
	spec := qos.Spec{ID: id, Name: "s", Framework: f, CPUs: 0.1, Submitted: time.Now().Add(-time.Hour)}
	spec.QoS = qos.QoS{Duration: 60, Deviation: 0.1, Deadline: qos.Deadline{After: 2 * time.Hour}, Elasticity: qos.ElasticityInPlace}
	if f == qos.Chronos {
		spec.Iterations, spec.QoS.IterationsBy = 3, qos.IterationsByChronos
	}
	j := newJob(row{Record: qos.Record{Spec: spec, Status: qos.Status{Phase: qos.PhasePending, Started: spec.Submitted}}})
	j.steward().Adopted, j.steward().Launched = true, true
	return j
}

// pastTask is a task that has ended, by minutes before now.
func pastTask(id, framework, state string, began, ended int) mesos.Task {
	at := func(minutes int) time.Time { return time.Now().Add(-time.Duration(minutes) * time.Minute) }
	return mesos.Task{
		ID: id, Name: "ChronosTask:s", FrameworkName: framework, ContainerID: "c-" + id, State: state, Completed: true, CPUs: 0.1,
		Statuses: []mesos.Status{{State: "TASK_RUNNING", At: at(began)}, {State: state, At: at(ended)}},
	}
}

// A Marathon execution whose task was told to stop goes on in the next one, with its deadline and its account; one that began anew does not.
func TestALaunchersExecutionSpansItsTasks(t *testing.T) {
	t.Parallel()
	n, _ := oldNode(t)
	a := n.agent
	j := launchedJob(launchedMarathon, qos.Marathon)
	var tasks []mesos.Task
	pass := func(id, state string, began, ended int) {
		tasks = append(tasks, pastTask(id, "marathon", state, began, ended))
		j.tasks = append(j.tasks, id)
		a.adopt(j, tasks)
	}
	pass("one", "TASK_KILLED", 50, 45)
	st := j.status()
	started := st.Execution.Started
	if st.Phase != qos.PhasePending || !j.row.Local.Heard.Broken || len(st.Runs) != 0 || st.Tally.Failed != 0 {
		t.Fatalf("after a stop: %s, %+v, %d runs", st.Phase, j.row.Local.Heard, len(st.Runs))
	}
	st.Execution.Account.Count(7 * time.Second)
	if err := a.hear(j, word{Kind: wordEnd, Finished: time.Now()}); err != nil { // as its second task does before it ends
		t.Fatal(err)
	}
	pass("two", "TASK_FINISHED", 44, 40)
	if len(st.Runs) != 1 || st.Runs[0].Outcome != qos.Met || st.Runs[0].Parts != 2 || st.Runs[0].CPU != 7 || !st.Runs[0].Started.Equal(started) {
		t.Fatalf("after its end: %s, %+v", st.Phase, st.Runs)
	}
	pass("three", "TASK_KILLED", 39, 38)
	if err := a.hear(j, word{Kind: wordBegin, Started: time.Now()}); err != nil {
		t.Fatal(err)
	}
	pass("four", "TASK_FINISHED", 37, 30)
	if len(st.Runs) != 3 || st.Runs[1].Outcome != qos.Failed || st.Runs[2].Outcome != qos.Met || st.Execution.Index != 3 || st.Tally.Succeeded != 2 {
		t.Errorf("one that began anew: %s, %+v", st.Phase, st.Runs)
	}
}

// An iteration that Mesos has shown is counted once, whatever is told of it; one that ran where nobody looks only if Chronos has counted it too.
func TestToldIterationsCountOnce(t *testing.T) {
	t.Parallel()
	n, _ := oldNode(t)
	a := n.agent
	j := launchedJob(launchedChronos, qos.Chronos)
	tell := func(began, ended int) {
		t.Helper()
		at := func(minutes int) time.Time { return time.Now().Add(-time.Duration(minutes) * time.Minute) }
		if err := a.hear(j, word{Kind: wordUpdate, Started: at(began), Finished: at(ended), Host: "elsewhere"}); err != nil {
			t.Fatal(err)
		}
	}
	look := func(s sight) bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		return a.countTold(j, s, time.Now().Add(time.Minute))
	}
	st := j.status()
	a.adopt(j, []mesos.Task{pastTask("one", "chronos", "TASK_FINISHED", 50, 45)})
	tell(50, 45)
	if waits := look(sight{Succeeded: 2}); waits || st.Tally.Succeeded != 1 {
		t.Errorf("told and shown: waits %t, %+v", waits, st.Tally)
	}
	tell(40, 35)
	if waits := look(sight{Succeeded: 1}); waits || st.Tally.Succeeded != 1 {
		t.Errorf("told, and Chronos disagrees: waits %t, %+v", waits, st.Tally)
	}
	tell(30, 25)
	if waits := look(sight{Succeeded: 2, Active: true}); !waits {
		t.Error("it did not wait for what is still under way")
	}
	if waits := look(sight{Succeeded: 2}); waits || st.Tally.Succeeded != 2 || st.Phase != qos.PhaseEnded || st.Execution.Index != 2 {
		t.Errorf("told, and Chronos agrees: waits %t, %s, %+v", waits, st.Phase, st.Tally)
	}
	a.adopt(j, []mesos.Task{pastTask("four", "chronos", "TASK_FINISHED", 20, 15)})
	if st.Phase != qos.PhaseCompleted || j.steward().Pending != qos.ActDelete || st.Tally.Met != 1 {
		t.Errorf("at the end: %s, %q, %+v", st.Phase, j.steward().Pending, st.Tally)
	}
	if shown := a.show(j, true); shown.Consumed != 0 || len(shown.Runs) != 3 {
		t.Errorf("%+v", shown)
	}
}

// Whatever times are told, an iteration lies between the job's submission and now: one that ended in the year 9999 would be taken for all that come.
func TestToldTimesAreThoseOfARunThatCanHaveBeen(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	now := since.Add(time.Hour)
	at := func(seconds int) time.Time { return since.Add(time.Duration(seconds) * time.Second) }
	for name, c := range map[string][2][2]time.Time{
		"as it was":            {{at(10), at(50)}, {at(10), at(50)}},
		"a clock that is fast": {{at(3620), at(3660)}, {at(3560), at(3600)}},
		"a clock that is slow": {{at(-400), at(-360)}, {at(3560), at(3600)}},
		"it began before":      {{at(-100), at(50)}, {at(0), at(50)}},
		"the end of time":      {{at(10), time.Unix(253402300799, 0)}, {at(0), at(3600)}},
		"the begin of time":    {{time.Unix(1, 0), time.Unix(2, 0)}, {at(3599), at(3600)}},
		"from begin to end":    {{time.Unix(1, 0), time.Unix(253402300799, 0)}, {at(0), at(3600)}},
	} {
		got := word{Started: c[0][0], Finished: c[0][1]}.plausible(since, now)
		if !got.Started.Equal(c[1][0]) || !got.Finished.Equal(c[1][1]) {
			t.Errorf("%s: %s to %s", name, got.Started, got.Finished)
		}
	}
	n, _ := oldNode(t)
	j := launchedJob(launchedChronos, qos.Chronos)
	j.spec().Submitted = time.Now().Add(-time.Minute)
	if err := n.agent.hear(j, word{Kind: wordUpdate, Started: time.Now(), Finished: time.Unix(253402300799, 0)}); err != nil {
		t.Fatal(err)
	}
	if u := j.row.Local.Heard.Update; u.Finished.After(time.Now()) || u.Started.Before(j.spec().Submitted) {
		t.Errorf("it is kept as %s to %s", u.Started, u.Finished)
	}
}
