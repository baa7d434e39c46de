package chronos

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/devmesos/node"
)

// bench is a core with its cluster, and a clock that tests turn.
type bench struct {
	*Core
	t   *testing.T
	f   *fake
	now time.Time
}

func newBench(t *testing.T) *bench {
	f := &fake{live: map[string]node.Task{}}
	b := &bench{Core: NewCore(f, false), t: t, f: f, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	b.pass(0) // the main loop sleeps from now on
	return b
}

// pass lets time go by, with all that happens in it.
func (b *bench) pass(d time.Duration) {
	end := b.now.Add(d)
	for next := b.Next(); !next.After(end); next = b.Next() {
		if next.After(b.now) {
			b.now = next
		}
		b.Tick(b.now)
	}
	b.now = end
	b.Tick(b.now)
}

func (b *bench) post(text string) {
	b.t.Helper()
	j, err := readJob([]byte(text), false)
	if err == nil {
		err = b.Post(j, b.now)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.Tick(b.now)
}

func (b *bench) start(name string) {
	b.t.Helper()
	if err := b.Start(name, b.now); err != nil {
		b.t.Fatal(err)
	}
	b.Tick(b.now)
}

func (b *bench) last() node.Task {
	b.t.Helper()
	if len(b.f.all) == 0 {
		b.t.Fatal("nothing was launched")
	}
	return b.f.all[len(b.f.all)-1]
}

// end ends the task that was launched last.
func (b *bench) end(s node.State) {
	b.t.Helper()
	id := b.last().ID
	delete(b.f.live, id)
	b.Status(b.now, node.Status{TaskID: id, State: s, At: b.now})
	b.Tick(b.now)
}

func job(name, schedule, more string) string {
	return fmt.Sprintf(`{"name":%q,"schedule":%q,"command":"true","cpus":1,"retries":0%s}`, name, schedule, more)
}

const byHand = "R/2200-01-01T00:00:00Z/PT1H"

func TestEveryLaunchDecrementsAndNoneLeftBecomesForEver(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.post(job("j", "R2//PT1H", ""))
	b.pass(time.Second)
	if got := b.store["j"].Schedule; got != "R1/2026-01-02T04:04:04.500Z/PT1H" {
		t.Errorf("after the first launch %s", got)
	}
	b.end(node.Failed)
	b.start("j")
	b.pass(time.Second)
	if got := b.store["j"].Schedule; !strings.HasPrefix(got, "R0/") {
		t.Errorf("after a launch by hand %s", got)
	}
	b.end(node.Failed)
	if b.store["j"].Disabled {
		t.Error("a failure disables")
	}
	b.pass(2 * time.Hour)
	if len(b.f.all) != 2 {
		t.Errorf("R0 is launched by its schedule: %d", len(b.f.all))
	}
	b.start("j")
	b.pass(time.Second)
	if got := b.store["j"].Schedule; !strings.HasPrefix(got, "R/") {
		t.Errorf("after one launch too many %s", got)
	}
}

func TestLastSuccessDisables(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.post(job("j", "R1//PT1H", ""))
	b.pass(time.Second)
	b.end(node.Finished)
	j := b.store["j"]
	if !j.Disabled || j.SuccessCount != 1 || j.LastSuccess == "" {
		t.Errorf("%+v", j)
	}
	b.start("j")
	b.pass(time.Minute)
	if len(b.f.all) != 1 || b.state("j") != "idle" {
		t.Error("a disabled job is launched")
	}
}

func TestStartWhileRunningIsDroppedWhenAnOfferComesFirst(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.post(job("j", byHand, ""))
	b.pass(time.Second)
	b.start("j")
	b.start("j") // queued already
	b.pass(time.Second)
	if len(b.f.all) != 1 || b.state("j") != "1 running" {
		t.Fatalf("%d launched, %s", len(b.f.all), b.state("j"))
	}
	b.start("j")
	b.pass(time.Second)
	b.end(node.Finished)
	b.pass(time.Minute)
	if len(b.f.all) != 1 {
		t.Error("start while running was kept though an offer came")
	}
	b.start("j")
	b.pass(time.Second)
	b.start("j")
	b.end(node.Finished) // before the offer
	b.pass(time.Second)
	if len(b.f.all) != 3 {
		t.Errorf("start just before the end: %d launched", len(b.f.all))
	}
	if got := b.store["j"].Schedule; got != byHand {
		t.Errorf("schedule %s", got)
	}
}

func TestNewJobIsFoundWhenTheMainLoopHasSeenIt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.post(job("j", byHand, ""))
	if err := b.Start("j", b.now); err == nil || !strings.Contains(err.Error(), "'j' not found") {
		t.Errorf("start at once: %v", err)
	}
	b.pass(graphDelay)
	b.start("j")
}

func TestReplacingTakesAllAndWakesNobody(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.post(job("j", byHand, `,"successCount":7`))
	b.pass(time.Second)
	b.start("j")
	b.pass(time.Second)
	b.post(strings.Replace(job("j", "R3//PT1H", ""), `"cpus":1`, `"cpus":2`, 1))
	if j := b.store["j"]; j.SuccessCount != 0 || j.CPUs != 2 || b.state("j") != "1 running" {
		t.Errorf("%+v", j)
	}
	b.end(node.Finished)
	b.pass(50 * time.Second)
	if len(b.f.all) != 1 {
		t.Error("the new schedule woke the main loop")
	}
	b.pass(15 * time.Second)
	if len(b.f.all) != 2 || b.last().CPUs != 2 {
		t.Errorf("%d launched", len(b.f.all))
	}
}

func TestResults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		state           node.State
		retries         int
		success, errors int64
		relaunched      bool
	}{
		"finished":                   {node.Finished, 2, 1, 0, false},
		"failed":                     {node.Failed, 0, 0, 1, false},
		"failed with retries":        {node.Failed, 1, 0, 0, true},
		"lost with retries":          {node.Lost, 1, 0, 0, true},
		"killed counts nothing":      {node.Killed, 2, 0, 0, false},
		"unreachable counts nothing": {node.Unreachable, 2, 0, 0, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.post(strings.Replace(job("j", byHand, ""), `"retries":0`, fmt.Sprintf(`"retries":%d`, test.retries), 1))
			b.pass(time.Second)
			b.start("j")
			b.pass(time.Second)
			b.end(test.state)
			j := b.store["j"]
			if j.SuccessCount != test.success || j.ErrorCount != test.errors || b.state("j") != "idle" {
				t.Errorf("%d successes, %d errors, %s", j.SuccessCount, j.ErrorCount, b.state("j"))
			}
			b.pass(59 * time.Second)
			if len(b.f.all) != 1 {
				t.Error("retried before a minute")
			}
			b.pass(2 * time.Second)
			if again := len(b.f.all) == 2; again != test.relaunched {
				t.Errorf("retried: %v", again)
			}
			if test.relaunched && !strings.Contains(b.last().ID, ":1:j:") {
				t.Errorf("second attempt is %s", b.last().ID)
			}
		})
	}
}

func TestChildrenRunAfterAllParents(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.post(job("a", byHand, ""))
	b.post(job("b", byHand, ""))
	b.post(`{"name":"c","command":"true","parents":["a","b"]}`)
	b.post(`{"name":"orphan","command":"true","parents":["x"]}`)
	b.pass(time.Second)
	if b.store["orphan"] != nil {
		t.Error("job with an unknown parent is kept")
	}
	for _, p := range []string{"a", "b"} {
		b.start(p)
		b.pass(time.Second)
		b.end(node.Finished)
		b.pass(time.Second)
	}
	if got := b.f.all[len(b.f.all)-1].Name; len(b.f.all) != 3 || got != "ChronosTask:c" {
		t.Errorf("%d launched, the last %s", len(b.f.all), got)
	}
	if err := b.Delete("a"); err != nil {
		t.Fatal(err)
	}
	if got := b.store["c"].Parents; !slices.Equal(got, []string{"b"}) {
		t.Errorf("parents %v", got)
	}
}

func TestDeleteKills(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.post(job("j", byHand, ""))
	b.pass(time.Second)
	b.start("j")
	b.pass(time.Second)
	if err := b.Delete("j"); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(b.f.kills, []string{b.last().ID}) {
		t.Errorf("killed %v", b.f.kills)
	}
	b.end(node.Killed)
	var refused *apiError
	if err := b.Delete("j"); !errors.As(err, &refused) || refused.status != http.StatusBadRequest {
		t.Errorf("second delete: %v", err)
	}
}

func TestTextsBecomeWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	j, err := readJob([]byte(`{"name":"j","cpus":"0.5","mem":null,"disk":"x","retries":"3","disabled":"false","shell":"true","concurrent":1,
		"command":null,"owner":7,"softError":null,"successCount":"4","schedule":"R/x/P","constraints":[["a","CLUSTER","b"],["a","like","b"],["a","LIKE"]],
		"container":{"type":"docker"},"qos":{}}`), false)
	if err != nil {
		t.Fatal(err)
	}
	want := Job{
		Name: "j", CPUs: 0.5, Mem: 128, Disk: 256, Retries: 3, Shell: true, Concurrent: true, Command: "null", Owner: "7", SuccessCount: 4, RunAsUser: "root",
		Schedule: "R/x/P", ScheduleTimeZone: new(string), Constraints: [][]string{{"a", "LIKE", "b"}}, Fetch: []Fetch{}, URIs: []string{},
		EnvironmentVariables: []Variable{}, Arguments: []string{},
	}
	if d := cmp.Diff(want, *j); d != "" {
		t.Error(d)
	}
	if _, err := readJob([]byte(`{"cpus":1}`), false); err == nil {
		t.Error("no name is needed")
	}
	if _, err := readJob([]byte(`{"name":"j","container":{"image":"x","network":"host"}}`), false); err == nil {
		t.Error("networks may be lower case")
	}
}

func TestSchedules(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := []struct{ text, zone, want, launched string }{
		{"R3//PT5M", "", "R3/2026-01-02T03:04:04.000Z/PT5M", "R2/2026-01-02T03:09:04.000Z/PT5M"},
		{"R/2026-01-02T00:00:00Z/PT1H", "", "R/2026-01-02T00:00:00.000Z/PT1H", "R/2026-01-02T04:00:00.000Z/PT1H"},
		{"R/2200-01-01T00:00:00Z/P1D", "", "R/2200-01-01T00:00:00.000Z/P1D", "R/2200-01-01T00:00:00.000Z/P1D"},
		{"R0/2026-01-02T00:00:00Z/P", "", "R0/2026-01-02T00:00:00.000Z/P", "R/2026-01-02T00:00:00.000Z/P"},
		{"R1/2026-01-02T00:00:00/P1D", "Europe/Bucharest", "R1/2026-01-01T22:00:00.000Z/P1D", "R0/2026-01-02T22:00:00.000Z/P1D"},
		{"R1/2026-01-02T00:00:00+01:00/P1D", "", "R1/2026-01-01T23:00:00.000Z/P1D", "R0/2026-01-02T23:00:00.000Z/P1D"},
		{"every day", "", "", ""},
		{"R/tomorrow/P1D", "", "", ""},
		{"R//PT", "", "", ""},
		{"R99999999999999999999//PT1H", "", "", ""},
	}
	for _, test := range tests {
		t.Run(test.text, func(t *testing.T) {
			s, ok := parseSchedule(test.text, test.zone, now)
			if !ok {
				if test.want != "" {
					t.Error("not parsed")
				}
				return
			}
			next, _ := s.launched(now)
			if s.String() != test.want || next.String() != test.launched {
				t.Errorf("got %s, launched %s", s, next)
			}
		})
	}
}

func TestTaskEnvironment(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.post(job("j", byHand, `,"owner":"ann","arguments":["-x","a;b"],"environmentVariables":[{"name":"A","value":"b"},{"name":"CHRONOS_JOB_NAME","value":"no"}]`))
	b.pass(time.Second)
	b.start("j")
	b.pass(time.Second)
	task := b.last()
	due := strings.Split(task.ID, ":")[1]
	want := map[string]string{
		"A": "b", "CHRONOS_JOB_NAME": "j", "CHRONOS_JOB_OWNER": "ann", "HOST": "h1", "MESOS_TASK_ID": task.ID, "mesos_task_id": task.ID,
		"CHRONOS_RESOURCE_CPU": "1.0", "CHRONOS_RESOURCE_MEM": "128.0", "CHRONOS_RESOURCE_DISK": "256.0",
		"CHRONOS_JOB_RUN_TIME": due, "CHRONOS_JOB_RUN_ATTEMPT": "0",
	}
	if d := cmp.Diff(want, task.Env); d != "" {
		t.Error(d)
	}
	if task.Command != "true -x ab" || task.ID != "ct:"+due+":0:j:-x ab" || task.Grace != nil {
		t.Errorf("%+v", task)
	}
}

func TestConstraints(t *testing.T) {
	t.Parallel()
	o := (&fake{}).Offers()[0]
	for text, want := range map[string]bool{
		"hostname EQUALS h1": true, "hostname LIKE h": false, "hostname LIKE h.": true, "qosctl UNLIKE no": true, "other UNLIKE no": false, "qosctl LIKE [": false,
	} {
		if got := meets([][]string{strings.Fields(text)}, o); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
