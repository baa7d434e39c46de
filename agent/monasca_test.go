package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"qosctl/agent/api"
	"qosctl/monasca"
	"qosctl/monasca/monascatest"
	"qosctl/qos"
)

// withMonasca makes a node's agent send to a Monasca on loopback.
func withMonasca(t *testing.T) (*monascatest.Monasca, func(*Config)) {
	t.Helper()
	k := &monascatest.Keystone{User: "u", Password: "p", Project: "mesos", Roles: monascatest.User}
	m := &monascatest.Monasca{Role: k.Role, Strict: true}
	keystone, api := httptest.NewServer(k), httptest.NewServer(m)
	t.Cleanup(keystone.Close)
	t.Cleanup(api.Close)
	file := filepath.Join(t.TempDir(), "monasca.json")
	text := fmt.Sprintf(`{"keystone_url":%q,"monocasca_client_url":%q,"username":"u","password":"p","project_name":"mesos"}`, keystone.URL, api.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return m, func(c *Config) { c.Monasca.CredentialsFile, c.Monasca.Interval = file, time.Second }
}

// values are what Monasca has of a metric, oldest first.
func values(m *monascatest.Monasca, name string) (list []float64) {
	for _, p := range m.Points() {
		if p.Name == name {
			list = append(list, p.Value)
		}
	}
	return list
}

func awaitPoints(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("Monasca has not got %s", what)
		}
	}
}

// An agent that is killed after it has measured, and before that is on the disk, must tell of the ended runs again.
func TestEndsCountAsToldOnceTheyAreOnTheDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "monasca.json")
	if err := os.WriteFile(file, []byte(`{"keystone_url":"http://127.0.0.1:9/v3","monocasca_client_url":"http://127.0.0.1:9/v2.0","username":"u","password":"p","project_name":"mesos"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := monasca.New(monasca.Options{Dir: dir, Credentials: file})
	if err != nil {
		t.Fatal(err)
	}
	a, f, now := &Agent{log: slog.New(slog.DiscardHandler)}, &feed{sender: s, marker: filepath.Join(dir, "told")}, time.Now()
	a.markTold(f, time.Time{}) // nothing was offered yet
	s.Offer([]monasca.Measurement{{Name: "deadline", Dimensions: map[string]string{"uuid": idA}, At: now, Value: 1}})
	a.markTold(f, now)
	if at := f.since(now.Add(-time.Hour)); at != now.Add(-time.Hour) || fileThere(f.marker) {
		t.Fatalf("what is only in memory counts as told up to %s", at)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(over); err != nil { // what was offered is in the spool then
		t.Fatal(err)
	}
	a.markTold(f, now)
	if at := f.since(now.Add(time.Hour)); !at.Equal(now) {
		t.Errorf("what is on the disk counts as told up to %s, not %s", at, now)
	}
}

func fileThere(path string) bool { _, err := os.Stat(path); return err == nil }

func TestJobsAreToldToMonasca(t *testing.T) {
	t.Parallel()
	m, configure := withMonasca(t)
	n := testNode(t, configure)
	n.submit(idA, `{"id":"/team/job","cmd":"while [ ! -e go ]; do :; done","cpus":0.5,"mem":32,"qos":{"duration":10,"desv_deadline":0.1,"deadline":60,"executions":1}}`)
	s, _ := n.claim(idA, "t1")
	n.await(idA, "decided about", func(j api.Job) bool { return j.State != "" && j.Consumed > 0 })
	awaitPoints(t, "a running job", func() bool {
		return len(values(m, "container.cpu.user_time")) > 2 && len(values(m, "prediction_vs_deadline")) > 0
	})
	for _, p := range m.Points() {
		switch {
		case strings.HasPrefix(p.Name, "container."):
			if p.Dimensions["name"] != idA || p.Dimensions["hostname"] != "testnode" {
				t.Errorf("%s has %v", p.Name, p.Dimensions)
			}
		case p.Dimensions["jobname"] != "team/job" || p.Dimensions["framework"] != "marathon" || p.Dimensions["uuid"] != idA:
			t.Errorf("%s has %v", p.Name, p.Dimensions)
		}
	}
	if got := values(m, "current_cputime_accumulated"); !slices.IsSorted(got) || got[len(got)-1] <= 0 {
		t.Errorf("CPU time is %v", got)
	}
	if got := values(m, "last_job_duration"); len(got) > 0 {
		t.Errorf("an end was told before it came: %v", got)
	}
	problems, err := testutil.GatherAndLint(n.agent.metrics.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}

	// It ends while no agent is there: the next one tells, once.
	n.end()
	if err := os.WriteFile(filepath.Join(n.cfg.DataDir, "monasca", "told.new"), nil, 0o600); err != nil { // as after kill -9
		t.Fatal(err)
	}
	n.begin()
	if _, err := n.client().Cancel(t.Context(), idA); err != nil {
		t.Fatal(err)
	}
	s.Close()
	n.await(idA, "cancelled", inPhase(qos.PhaseCancelled))
	awaitPoints(t, "its end", func() bool { return len(values(m, "last_job_duration")) > 0 })
	n.end()
	n.begin()
	n.end()
	if got := values(m, "last_job_duration"); len(got) != 1 {
		t.Errorf("its end was told %d times", len(got))
	}
}

func TestFiguresTellEachEndOnce(t *testing.T) {
	t.Parallel()
	m, configure := withMonasca(t)
	_ = m
	n := testNode(t, configure)
	n.submit(idA, `{"name":"series","command":"true","schedule":"R3//PT1M","cpus":0.5,"mem":32,"qos":{"duration":1,"desv_deadline":0.2,"deadline":60}}`)
	s, _ := n.claim(idA, "ct:1:0:series:")
	n.read(s, "ct:1:0:series:")
	n.await(idA, "completed", inPhase(qos.PhaseCompleted))
	f := &feed{told: map[string]told{}}
	if got := n.agent.figures(f, time.Now().Add(-time.Hour)); len(got) != 1 || len(got[0].Ended) != 3 || got[0].Left != 0 || got[0].Running {
		t.Fatalf("first: %+v", got)
	}
	if got := n.agent.figures(f, time.Time{}); len(got) != 0 {
		t.Errorf("again: %+v", got)
	}
	f = &feed{told: map[string]told{}}
	if got := n.agent.figures(f, time.Now()); len(got) != 0 { // a former agent told of all
		t.Errorf("after a restart: %+v", got)
	}
}

func TestAJobIsToldOfByItsOwner(t *testing.T) {
	t.Parallel()
	a := &Agent{node: "a"}
	if st := (&qos.Status{Owner: "b"}); !a.speaksFor(st) { // under another name, before it was alone
		t.Error("an agent that is alone is silent about a job")
	}
	a.cluster = &cluster{}
	if a.speaksFor(&qos.Status{Owner: "b"}) || a.speaksFor(&qos.Status{}) || !a.speaksFor(&qos.Status{Owner: "a"}) {
		t.Error("not the owner tells")
	}
	// Of three ends that the owner has told or is about to tell, the last may be told again if the job comes here now.
	f := &feed{every: 30 * time.Second}
	ago := func(d time.Duration) monasca.Run { return monasca.Run{Ended: time.Now().Add(-d)} }
	got := f.leave(monasca.Job{Ended: []monasca.Run{ago(time.Hour), ago(2 * time.Minute), ago(10 * time.Second)}}, told{run: 7})
	if got.run != 6 {
		t.Errorf("runs up to %d count as told", got.run)
	}
}

func TestMarkOfWhatWasTold(t *testing.T) {
	t.Parallel()
	f := &feed{marker: filepath.Join(t.TempDir(), "told")}
	now := time.Now()
	if got := f.since(now); !got.Equal(now) {
		t.Errorf("without a mark: %s", got)
	}
	if err := f.mark(now.Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got := f.since(now); !got.Equal(now.Add(-time.Minute)) {
		t.Errorf("got %s", got)
	}
	if got := f.since(now.Add(-time.Hour)); !got.Equal(now.Add(-time.Hour)) {
		t.Errorf("the clock was set back: %s", got)
	}
	for _, text := range []string{"", "x", "2026-11-28T12:00:00Z trailing"} {
		if err := os.WriteFile(f.marker, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := f.since(now); !got.Equal(now) {
			t.Errorf("%q: %s", text, got)
		}
	}
}

func TestCPUSplitOverIncarnations(t *testing.T) {
	t.Parallel()
	sec := func(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }
	var a qos.Account
	var s cpuSplit
	check := func(what string, user, system float64) {
		t.Helper()
		if diff := cmp.Diff([]time.Duration{sec(user), sec(system)}, []time.Duration{s.user(), s.system()}); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	first := a.StartIncarnation(qos.Entry{Node: "n"})
	a.Observe(first, sec(10))
	s.read(1, a, sec(9), sec(1))
	check("the first", 9, 1)
	a.Observe(first, sec(12)) // two seconds more before it was checkpointed, which no round saw
	a.StartIncarnation(qos.Entry{Node: "n", Base: sec(12), Zero: sec(1)})
	s.read(1, a, 0, 0)
	check("restored", 10.8, 1.2)
	a.Observe(a.Live, sec(3))
	s.read(1, a, sec(3), sec(1)) // a quarter of it is the restore's own
	check("goes on", 10.8+2.25, 1.2+0.75)
	var next cpuSplit // an agent that was started meanwhile
	next.read(1, a, sec(3), sec(1))
	if got := next.user() + next.system(); got != sec(15) {
		t.Errorf("after a restart the sum is %s", got)
	}
	var b qos.Account
	b.StartIncarnation(qos.Entry{Node: "n"})
	s.read(2, b, sec(1), 0)
	check("the next execution", 1, 0)
}

// Whatever comes, neither part falls within an execution.
func TestCPUSplitNeverFalls(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var a qos.Account
		var s cpuSplit
		var user, system time.Duration
		a.StartIncarnation(qos.Entry{Node: "n"})
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			if rapid.IntRange(0, 5).Draw(t, "what") == 0 {
				zero := time.Duration(rapid.Int64Range(0, 1e9).Draw(t, "zero"))
				a.StartIncarnation(qos.Entry{Node: "n", Base: a.Progress(), Zero: zero})
				user, system = 0, 0
			}
			user += time.Duration(rapid.Int64Range(0, 2e9).Draw(t, "user"))
			system += time.Duration(rapid.Int64Range(0, 2e9).Draw(t, "system"))
			a.Count(user + system)
			before := [2]time.Duration{s.user(), s.system()}
			s.read(1, a, user, system)
			if s.user() < before[0] || s.system() < before[1] {
				t.Fatalf("fell from %v to %s and %s", before, s.user(), s.system())
			}
		}
	})
}
