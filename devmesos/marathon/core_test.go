package marathon

import (
	"encoding/json"
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

func status(err error) int {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e.Status
	}
	return 0
}

func TestFinishedAndFailedTasksAreRelaunchedEverLater(t *testing.T) {
	t.Parallel()
	b := newBench(t, false)
	b.create(app("/a", polite+`,"backoffSeconds":10,"backoffFactor":2,"maxLaunchDelaySeconds":30`))
	for n, want := range []time.Duration{10, 20, 30, 30} {
		want *= time.Second
		b.say(b.last(), node.Running)
		b.pass(time.Second)
		before := b.launched()
		b.say(b.last(), []node.State{node.Finished, node.Failed}[n%2])
		if got := b.Next(b.now).Sub(b.now); got != want {
			t.Errorf("failure %d: next tick in %s, want %s", n, got, want)
		}
		b.pass(want - time.Millisecond)
		if b.launched() != before {
			t.Errorf("failure %d: launched before %s", n, want)
		}
		b.pass(time.Millisecond)
		if b.launched() != before+1 {
			t.Errorf("failure %d: not launched after %s", n, want)
		}
	}
	b.say(b.last(), node.Running)
	b.pass(70 * time.Second) // longer than the longest delay after the last one: forgotten
	b.say(b.last(), node.Finished)
	if got := b.Next(b.now).Sub(b.now); got != 10*time.Second {
		t.Errorf("after a long run: next tick in %s", got)
	}
}

func TestKilledTaskIsRelaunchedAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, false)
	b.create(app("/a", polite))
	first := b.last()
	b.say(first, node.Running)
	if _, tasks, err := b.KillTasks(b.now, "/a", killRequest{task: first}); err != nil || len(tasks) != 1 {
		t.Fatal(tasks, err)
	}
	b.Tick(b.now)
	if b.launched() != 1 {
		t.Fatal("relaunched before the old task has ended")
	}
	b.say(first, node.Killed)
	if b.launched() != 2 || b.last() == first {
		t.Errorf("launched %v", b.f.all)
	}
	if want := strings.TrimSuffix(first, "1") + "2"; b.last() != want {
		t.Errorf("task %s, want %s: the instance stays", b.last(), want)
	}
}

func TestKillIsRepeatedUntilTheTaskHasEnded(t *testing.T) {
	t.Parallel()
	b := newBench(t, false)
	b.create(app("/a", polite))
	b.say(b.last(), node.Running)
	if _, err := b.Delete(b.now, "/a", true); err != nil {
		t.Fatal(err)
	}
	b.Tick(b.now)
	for n := 1; n <= 3; n++ {
		if len(b.f.kills) != n {
			t.Errorf("kills %v, want %d", b.f.kills, n)
		}
		if got := b.Next(b.now).Sub(b.now); got != 30*time.Second {
			t.Errorf("next in %s", got)
		}
		b.pass(30 * time.Second)
	}
	b.say(b.last(), node.Killed)
	if !b.Next(b.now).IsZero() || len(b.apps) != 0 {
		t.Error("something is left to do")
	}
	if !slices.Contains(b.events, "app_terminated_event") {
		t.Errorf("events %v", b.events)
	}
}

func TestCapacitiesOfARestart(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		n, healthy   int
		u            UpgradeStrategy
		killNow, cap int
	}{
		"default overlaps":             {1, 1, UpgradeStrategy{1, 1}, 0, 2},
		"1/0 gets one more":            {1, 1, UpgradeStrategy{1, 0}, 0, 2},
		"0/0 kills first":              {1, 1, UpgradeStrategy{0, 0}, 1, 1},
		"0/1 kills and starts at once": {1, 1, UpgradeStrategy{0, 1}, 1, 2},
		"half of four":                 {4, 4, UpgradeStrategy{0.5, 0.25}, 2, 5},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			killNow, capacity := capacities(test.n, test.healthy, test.u)
			if killNow != test.killNow || capacity != test.cap {
				t.Errorf("got %d, %d, want %d, %d", killNow, capacity, test.killNow, test.cap)
			}
		})
	}
}

func TestRestartKillsFirstOrOverlaps(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		strategy           string
		killed, launched   int // at once
		afterNew, afterOld [2]int
	}{
		"0/0": {`{"minimumHealthCapacity":0,"maximumOverCapacity":0}`, 1, 1, [2]int{}, [2]int{}},
		"0/1": {`{"minimumHealthCapacity":0,"maximumOverCapacity":1}`, 1, 2, [2]int{}, [2]int{}},
		"1/1": {`{"minimumHealthCapacity":1,"maximumOverCapacity":1}`, 0, 2, [2]int{}, [2]int{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, false)
			b.create(app("/a", `"cmd":"sleep 1","cpus":1,"upgradeStrategy":`+test.strategy))
			old := b.last()
			b.say(old, node.Running)
			if _, err := b.patch("/a", `{"labels":{"a":"b"}}`, false); err != nil {
				t.Fatal(err)
			}
			if len(b.f.kills) != test.killed || b.launched() != test.launched {
				t.Fatalf("%d killed, %d launched at once; want %d, %d", len(b.f.kills), b.launched(), test.killed, test.launched)
			}
			if test.killed == 0 {
				b.say(b.last(), node.Running)
			}
			if !slices.Contains(b.f.kills, old) {
				t.Fatal("old task is not killed")
			}
			b.say(old, node.Killed)
			if b.launched() != 2 {
				t.Fatalf("launched %v", b.f.all)
			}
			b.say(b.last(), node.Running)
			if len(b.deployments) != 0 {
				t.Error("deployment does not end")
			}
		})
	}
}

func TestWhatFitsNowhereLeavesTheAppDownAndLocked(t *testing.T) {
	t.Parallel()
	b := newBench(t, false)
	b.create(app("/a", polite))
	b.say(b.last(), node.Running)
	d, err := b.patch("/a", `{"cpus":99}`, false)
	if err != nil {
		t.Fatal(err)
	}
	b.say(b.last(), node.Killed)
	b.pass(time.Hour)
	if b.launched() != 1 || !slices.Equal(b.lockedBy("/a"), []string{d.ID}) {
		t.Fatalf("launched %v, locked by %v", b.f.all, b.lockedBy("/a"))
	}
	if _, err := b.patch("/a", `{"cpus":1}`, false); status(err) != http.StatusConflict {
		t.Errorf("unforced change: %v", err)
	}
	if _, err := b.EndDeployment(b.now, d.ID, false); err != nil {
		t.Fatal(err)
	}
	b.Tick(b.now)
	if b.launched() != 2 {
		t.Fatal("reverting launches nothing")
	}
	b.say(b.last(), node.Running)
	if s := b.apps["/a"]; len(b.deployments) != 0 || *s.spec.CPUs != 1 {
		t.Errorf("after reverting: %d deployments, cpus %g", len(b.deployments), *s.spec.CPUs)
	}
}

func TestScalingLeavesTasksAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t, false)
	b.create(app("/a", polite))
	first := b.last()
	b.say(first, node.Running)
	b.pass(time.Second)
	if _, err := b.patch("/a", `{"instances":3}`, false); err != nil {
		t.Fatal(err)
	}
	for _, id := range b.f.all[1:] {
		b.pass(time.Second)
		b.say(id, node.Running)
	}
	if b.launched() != 3 || len(b.f.kills) != 0 || len(b.deployments) != 0 {
		t.Fatalf("launched %v, killed %v", b.f.all, b.f.kills)
	}
	if _, err := b.patch("/a", `{"instances":1}`, false); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(b.f.kills, first) || len(b.f.kills) != 2 {
		t.Errorf("killed %v: the youngest go first", b.f.kills)
	}
}

func TestSameDefinitionIsADeploymentWithoutSteps(t *testing.T) {
	t.Parallel()
	b := newBench(t, false)
	b.create(app("/a", polite))
	b.say(b.last(), node.Running)
	before := *b.apps["/a"].spec.Version
	d, err := b.patch("/a", `{"cpus":1}`, false)
	if err != nil || len(d.steps) != 0 || len(b.f.kills) != 0 {
		t.Errorf("%+v %v", d, err)
	}
	if _, err := b.patch("/a", `{"cpus":2}`, false); err != nil {
		t.Fatal(err)
	}
	b.say(b.last(), node.Killed)
	b.say(b.last(), node.Running)
	if _, err := b.patch("/a", fmt.Sprintf(`{"version":%q}`, before), false); err != nil {
		t.Fatal(err)
	}
	if got := *b.apps["/a"].spec.CPUs; got != 1 {
		t.Errorf("rolled back to %g cpus", got)
	}
}

func TestUnreachableTaskIsReplacedByItsStrategy(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		strategy          string
		at0, at10s, at30s int // tasks launched
	}{
		"default":  {`{"inactiveAfterSeconds":0,"expungeAfterSeconds":0}`, 2, 2, 2},
		"seconds":  {`{"inactiveAfterSeconds":10,"expungeAfterSeconds":30}`, 1, 2, 2},
		"disabled": {`"disabled"`, 1, 1, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, false)
			b.create(app("/a", polite+`,"unreachableStrategy":`+test.strategy))
			old := b.last()
			b.say(old, node.Running)
			b.say(old, node.Unreachable)
			got := []int{b.launched()}
			b.pass(10 * time.Second)
			got = append(got, b.launched())
			b.pass(20 * time.Second)
			got = append(got, b.launched())
			if want := []int{test.at0, test.at10s, test.at30s}; !slices.Equal(got, want) {
				t.Fatalf("launched %v, want %v", got, want)
			}
			kills := len(b.f.kills)
			b.say(old, node.Running) // returns
			if forgotten := test.at30s == 2; forgotten != (len(b.f.kills) > kills) {
				t.Errorf("killed on return: %v", b.f.kills[kills:])
			}
		})
	}
}

func TestWipeForgetsAnUnreachableTask(t *testing.T) {
	t.Parallel()
	b := newBench(t, false)
	b.create(app("/a", polite+`,"unreachableStrategy":"disabled"`))
	b.say(b.last(), node.Running)
	b.say(b.last(), node.Unreachable)
	b.pass(time.Hour)
	if b.launched() != 1 {
		t.Fatal("replaced")
	}
	if _, _, err := b.KillTasks(b.now, "/a", killRequest{task: b.last(), wipe: true}); err != nil {
		t.Fatal(err)
	}
	b.Tick(b.now)
	if b.launched() != 2 {
		t.Error("not replaced after the wipe")
	}
}

func TestConstraints(t *testing.T) {
	t.Parallel()
	o := node.Offer{Hostname: "h1.x", Attributes: map[string]string{"rack": "7"}}
	here := place{"h1.x", o.Attributes}
	tests := []struct {
		constraint string
		others     int
		want       bool
	}{
		{"hostname UNIQUE", 0, true},
		{"hostname UNIQUE", 1, false},
		{"hostname CLUSTER h1.x", 1, true},
		{"hostname CLUSTER h2", 0, false},
		{"rack CLUSTER", 2, true},
		{"hostname LIKE h1", 0, false},
		{"hostname LIKE h1.*", 0, true},
		{"hostname LIKE h1|h1.x", 0, true},
		{"hostname UNLIKE h1|h2", 0, true},
		{"hostname UNLIKE h.*", 0, false},
		{"gpu UNLIKE yes", 0, true},
		{"gpu LIKE .*", 0, false},
		{"rack IS 7", 0, true},
		{"rack IS 8", 0, false},
		{"hostname MAX_PER 2", 1, true},
		{"hostname MAX_PER 2", 2, false},
		{"hostname GROUP_BY", 3, true},
		{"hostname GROUP_BY 2", 0, true},
		{"hostname GROUP_BY 2", 1, false},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.constraint, " with ", test.others), func(t *testing.T) {
			c := strings.Fields(test.constraint)
			if text := invalidConstraint(c); text != "" {
				t.Fatal(text)
			}
			if got := meets(&App{Constraints: [][]string{c}, Instances: new(2)}, o, slices.Repeat([]place{here}, test.others)); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	b := newBench(t, false)
	b.create(app("/g/a", polite+`,"labels":{"qos.job-id":"7","long":"`+strings.Repeat("x", 512)+`"},"env":{"HOST":"mine","S":{"secret":"s"}},
		"portDefinitions":[{"port":0,"name":"web"},{"port":8080}]`))
	task := b.f.live[b.last()]
	want := map[string]string{
		"MESOS_TASK_ID": task.ID, "MARATHON_APP_ID": "/g/a", "MARATHON_APP_VERSION": *b.apps["/g/a"].spec.Version, "HOST": "mine",
		"MARATHON_APP_RESOURCE_CPUS": "1.0", "MARATHON_APP_RESOURCE_MEM": "128.0", "MARATHON_APP_RESOURCE_DISK": "0.0",
		"MARATHON_APP_RESOURCE_GPUS": "0", "MARATHON_APP_ENFORCE_GROUP_ROLE": "false", "MARATHON_APP_LABELS": "QOS_JOB_ID",
		"MARATHON_APP_LABEL_QOS_JOB_ID": "7", "PORT": "31000", "PORT0": "31000", "PORT1": "31001", "PORTS": "31000,31001",
		"PORT_10000": "31000", "PORT_8080": "31001", "PORT_WEB": "31000",
	}
	if d := cmp.Diff(want, task.Env); d != "" {
		t.Error(d)
	}
	if task.Name != "a.g" {
		t.Errorf("name %s", task.Name)
	}
	if !strings.HasPrefix(task.ID, "g_a.instance-") || !strings.HasSuffix(task.ID, "._app.1") {
		t.Errorf("id %s", task.ID)
	}
}

func TestOldMarathonAnswersInOldShapes(t *testing.T) {
	t.Parallel()
	b := newBench(t, true)
	b.create(app("/a", polite+`,"ports":[0],"uris":["http://h/x"],"container":{"type":"DOCKER","docker":{"image":"x","network":"HOST"}}`))
	out, err := json.Marshal(b.appJSON(b.apps["/a"], embed{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"network":"HOST"`, `"uris":["http://h/x"]`, `"ports":[10000]`, `"maxLaunchDelaySeconds":3600`, `"expungeAfterSeconds":600`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%s is missing in %s", want, out)
		}
	}
	if strings.Contains(string(out), "networks") {
		t.Errorf("new shape in %s", out)
	}
}
