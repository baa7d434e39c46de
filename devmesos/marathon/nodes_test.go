package marathon

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"qosctl/devmesos/node"
)

// spread creates an app with a constraint and so many instances, lets them run, and counts them by host.
func spread(t *testing.T, nodes []string, instances int, constraint string) map[string]int {
	t.Helper()
	b := newBench(t, false, nodes...)
	b.f.cpus = 100
	fields := strings.Fields(constraint)
	b.create(app("/a", fmt.Sprintf(`"cmd":"sleep 1","cpus":1,"instances":%d,"constraints":[["%s"]]`, instances, strings.Join(fields, `","`))))
	for range 2 * instances {
		for id := range maps.Clone(b.f.live) {
			b.say(id, node.Running)
		}
	}
	got := map[string]int{}
	for _, host := range b.f.at {
		got[host]++
	}
	return got
}

func TestConstraintsChooseAmongNodes(t *testing.T) {
	t.Parallel()
	three := []string{"a1", "a2", "b1"}
	tests := []struct {
		constraint string
		instances  int
		want       map[string]int
	}{
		{"hostname UNIQUE", 5, map[string]int{"a1": 1, "a2": 1, "b1": 1}},
		{"hostname CLUSTER b1", 2, map[string]int{"b1": 2}},
		{"hostname CLUSTER", 3, map[string]int{"a1": 3}},
		{"rack CLUSTER", 2, map[string]int{"a1": 2}},
		{"hostname LIKE a.", 2, map[string]int{"a1": 2}},
		{"hostname UNLIKE a1|a2", 2, map[string]int{"b1": 2}},
		{"rack IS b", 1, map[string]int{"b1": 1}},
		{"hostname MAX_PER 2", 5, map[string]int{"a1": 2, "a2": 2, "b1": 1}},
		{"hostname GROUP_BY 3", 5, map[string]int{"a1": 2, "a2": 2, "b1": 1}},
		{"rack GROUP_BY 2", 4, map[string]int{"a1": 2, "b1": 2}},
		{"hostname CLUSTER nowhere", 1, map[string]int{}},
	}
	for _, test := range tests {
		if got := spread(t, three, test.instances, test.constraint); !maps.Equal(got, test.want) {
			t.Errorf("%s × %d: %v, want %v", test.constraint, test.instances, got, test.want)
		}
	}
}

func TestALostTaskIsRelaunchedElsewhereOnlyWhenItIsWiped(t *testing.T) {
	t.Parallel()
	b := newBench(t, false, "n1", "n2")
	b.create(app("/a", polite+`,"unreachableStrategy":"disabled"`))
	old := b.last()
	b.say(old, node.Running)
	b.f.away["n1"] = true
	b.say(old, node.Unreachable)
	b.pass(24 * time.Hour)
	if got := b.appJSON(b.apps["/a"], embed{tasks: true})["tasks"].([]map[string]any); b.launched() != 1 || len(got) != 1 || got[0]["state"] != "TASK_UNREACHABLE" {
		t.Fatalf("launched %d, tasks %v", b.launched(), got)
	}
	if _, _, err := b.KillTasks(b.now, "/a", killRequest{task: old, wipe: true}); err != nil {
		t.Fatal(err)
	}
	b.Tick(b.now)
	if b.launched() != 2 || b.f.at[b.last()] != "n2" {
		t.Fatalf("launched %d, at %v", b.launched(), b.f.at)
	}
	kills := len(b.f.kills)
	b.say(old, node.Running) // comes back, and nobody knows it any more
	if !slices.Contains(b.f.kills[kills:], old) {
		t.Error("not killed when it came back")
	}
}

func TestAKillWithoutWipeWaitsForTheReturn(t *testing.T) {
	t.Parallel()
	b := newBench(t, false, "n1", "n2")
	b.create(app("/a", polite+`,"unreachableStrategy":"disabled"`))
	old := b.last()
	b.say(old, node.Running)
	b.f.away["n1"] = true
	b.say(old, node.Unreachable)
	if _, _, err := b.KillTasks(b.now, "/a", killRequest{task: old}); err != nil {
		t.Fatal(err)
	}
	b.pass(scaleInterval - time.Second)
	if b.launched() != 1 || len(b.f.kills) != 0 {
		t.Fatalf("launched %d, killed %v", b.launched(), b.f.kills)
	}
	b.pass(time.Second) // Marathon counts
	if b.launched() != 2 || len(b.tasksJSON(b.apps["/a"])) != 2 {
		t.Fatalf("launched %d, tasks %v", b.launched(), b.tasksJSON(b.apps["/a"]))
	}
	b.say(old, node.Running)
	if !slices.Contains(b.f.kills, old) {
		t.Error("not killed on its return")
	}
	b.say(old, node.Killed)
	if len(b.tasksJSON(b.apps["/a"])) != 1 || b.launched() != 2 {
		t.Errorf("tasks %v", b.tasksJSON(b.apps["/a"]))
	}
}

func TestOffersOfAMachineInMaintenanceAreDeclined(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	u := &node.Unavailability{Start: now, Duration: time.Hour}
	for at, want := range map[time.Duration]bool{-time.Second: false, 0: true, time.Hour - 1: true, time.Hour: false} {
		if u.During(now.Add(at)) != want {
			t.Errorf("at %s: %v", at, !want)
		}
	}
	if !(&node.Unavailability{Start: now}).During(now.Add(1e6*time.Hour)) || (*node.Unavailability)(nil).During(now) {
		t.Error("without an end, or without any")
	}
}

// TestTasksThatLastAreTakenBack restarts the scheduler under tasks whose nodes live on.
func TestTasksThatLastAreTakenBack(t *testing.T) {
	t.Parallel()
	f := newFake("n1", "n2")
	f.last = true
	o := Options{Cluster: f, Dir: t.TempDir(), Version: "1.11.0"}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"/a", "/b"} {
		if err := s.do(func(c *Core, now time.Time) error {
			_, _, err := c.Create(now, []byte(app(id, polite+`,"unreachableStrategy":"disabled"`)), false)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	all, _ := f.seen()
	for _, id := range all {
		s.Status(node.Status{TaskID: id, State: node.Running, At: time.Now()})
	}
	s.Status(node.Status{TaskID: all[1], State: node.Unreachable, At: time.Now()})
	next, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	next.core.Tick(time.Now())
	if again, _ := f.seen(); len(again) != 2 {
		t.Fatalf("launched again: %v", again)
	}
	next.Status(node.Status{TaskID: all[0], State: node.Lost, At: time.Now()}) // the node came back without it
	next.core.Tick(time.Now().Add(time.Minute))
	if again, _ := f.seen(); len(again) != 3 || !strings.HasPrefix(again[2], "a.") {
		t.Errorf("launched %v", again)
	}
	if i := next.core.apps["/b"].instances[0]; i.State != node.Unreachable || i.TaskID != all[1] {
		t.Errorf("%+v", i)
	}
}

// TestAppsSurviveTheLossOfNodes loses nodes and lets them return, wipes and kills: an app with a disabled strategy never has two live
// tasks that it knows of, and what it forgot is killed when it comes back; in the end it runs.
func TestAppsSurviveTheLossOfNodes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		b := newBench(t, false, "n1", "n2", "n3")
		b.create(app("/a", polite+`,"unreachableStrategy":"disabled"`))
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			b.loseOrReturn(rt)
			reachable := 0
			for id := range b.f.live {
				if !b.f.away[b.f.at[id]] && !slices.Contains(b.f.kills, id) {
					reachable++
				}
			}
			if reachable > 1 {
				rt.Fatalf("%d tasks at once that nobody has killed", reachable)
			}
		}
		for host := range maps.Clone(b.f.away) {
			b.comeBack(host)
		}
		for range 20 {
			for id := range maps.Clone(b.f.live) {
				if slices.Contains(b.f.kills, id) {
					b.say(id, node.Killed)
				} else {
					b.say(id, node.Running)
				}
			}
			b.pass(400 * time.Second)
		}
		if len(b.f.live) != 1 || b.apps["/a"].instances[0].State != node.Running {
			rt.Fatalf("in the end %d tasks, %d instances", len(b.f.live), len(b.apps["/a"].instances))
		}
	})
}

func (b *bench) comeBack(host string) {
	delete(b.f.away, host)
	for id := range maps.Clone(b.f.live) {
		if b.f.at[id] == host {
			b.say(id, node.Running)
		}
	}
}

func (b *bench) loseOrReturn(rt *rapid.T) {
	host := rapid.SampledFrom(b.f.nodes).Draw(rt, "node")
	switch rapid.IntRange(0, 5).Draw(rt, "act") {
	case 0, 1:
		if b.f.away[host] {
			b.comeBack(host)
			return
		}
		b.f.away[host] = true
		for id := range maps.Clone(b.f.live) {
			if b.f.at[id] == host {
				b.say(id, node.Unreachable)
			}
		}
	case 2:
		_, _, _ = b.KillTasks(b.now, "/a", killRequest{wipe: true})
		b.Tick(b.now)
	case 3:
		for id := range maps.Clone(b.f.live) {
			if !b.f.away[b.f.at[id]] && slices.Contains(b.f.kills, id) {
				b.say(id, node.Killed)
			}
		}
	case 4:
		b.pass(time.Duration(rapid.IntRange(1, 400).Draw(rt, "s")) * time.Second)
	default:
		for id := range maps.Clone(b.f.live) {
			if !b.f.away[b.f.at[id]] {
				b.say(id, rapid.SampledFrom([]node.State{node.Running, node.Finished}).Draw(rt, "state"))
			}
		}
	}
}
