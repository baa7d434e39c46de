package master

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"qosctl/devmesos/node"
)

// host is a node without processes, that speaks the protocol by hand.
type host struct {
	report  node.Report
	tasks   map[string]node.State
	kills   []string
	drained *node.DrainConfig
	down    string
}

func newHost(name string, lasting bool) *host {
	h := &host{tasks: map[string]node.State{}}
	h.report = node.Report{Protocol: node.Protocol, Life: name + "-1", Agent: node.AgentInfo{
		ID: name + "-S0", Hostname: name, Address: name + ":5051", CPUs: 2, MemMiB: 1000, DiskMiB: 1000, FirstPort: 31000, Lasting: lasting,
	}}
	return h
}

// say reports and obeys.
func (h *host) say(m *Master, now time.Time) {
	h.report.Number++
	h.report.Tasks = nil
	for _, id := range slices.Sorted(maps.Keys(h.tasks)) {
		h.report.Tasks = append(h.report.Tasks, node.Held{ID: id, Framework: framed(id), State: h.tasks[id], CPUs: 1})
	}
	var acks []string
	m.change(func() (list []update, freed bool) {
		list, acks, h.down, freed = m.take(h.report, now)
		return list, freed
	})
	h.report.Updates = slices.DeleteFunc(h.report.Updates, func(u node.Update) bool { return slices.Contains(acks, u.UUID) })
	if acks == nil {
		acks = []string{}
	}
	o, _, err := m.orders(h.report, acks, h.down)
	if err != nil {
		return
	}
	if o.Master != h.report.Master {
		h.report.Master, h.report.Seen = o.Master, 0
	}
	for _, order := range o.Orders {
		if order.Number <= h.report.Seen {
			continue
		}
		h.report.Seen = order.Number
		switch {
		case order.Launch != nil:
			h.tasks[order.Launch.ID] = node.Running
			h.update(order.Launch.ID, node.Running)
		case order.Kill != nil:
			h.kills = append(h.kills, order.Kill.Task)
			if h.tasks[order.Kill.Task] != "" {
				h.update(order.Kill.Task, node.Killed)
			}
		case order.Drain != nil:
			h.drained = order.Drain
			for id := range maps.Clone(h.tasks) {
				h.update(id, node.Killed)
			}
		}
	}
}

// framed is the framework of a task, by the first letter of its name.
func framed(id string) string {
	if strings.HasPrefix(id, "c") {
		return "chronos"
	}
	return "marathon"
}

func (h *host) update(id string, s node.State) {
	h.tasks[id] = s
	if s.Terminal() {
		delete(h.tasks, id)
	}
	h.report.Updates = append(h.report.Updates, node.Update{UUID: node.NewUUID(), Framework: framed(id), Status: node.Status{TaskID: id, State: s}})
}

// restart is a new process of a node; what ran has been ended.
func (h *host) restart() {
	h.report.Life += "'"
	h.report.Number, h.report.Seen, h.report.Master, h.report.Updates = 0, 0, "", nil
	clear(h.tasks)
}

// heard is what frameworks were told, task by task.
type heard map[string][]string

func (h heard) take(s node.Status) {
	h[s.TaskID] = append(h[s.TaskID], strings.TrimPrefix(string(s.State), "TASK_"))
}

func newMaster(t testing.TB, dir string) (*Master, heard) {
	t.Helper()
	m, err := New(Options{Dir: dir, PingTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	h := heard{}
	m.Register("marathon", true, h.take, func() {})
	m.Register("chronos", false, h.take, func() {})
	return m, h
}

func launch(t testing.TB, m *Master, agent, id string, cpus float64) {
	t.Helper()
	if err := m.Launch(agent, node.Task{ID: id, Framework: framed(id), CPUs: cpus}); err != nil {
		t.Fatal(err)
	}
}

func states(h heard, id string) string { return strings.Join(h[id], " ") }

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestANodeThatIsSilentIsUnreachableAndReturns(t *testing.T) {
	t.Parallel()
	m, h := newMaster(t, "")
	a, b := newHost("a", false), newHost("b", false)
	a.say(m, start)
	b.say(m, start)
	launch(t, m, "a-S0", "m1", 1)
	launch(t, m, "a-S0", "c1", 1)
	a.say(m, start)
	a.say(m, start) // the updates
	launch(t, m, "b-S0", "m2", 1)
	now := start.Add(10 * time.Second)
	b.say(m, now)
	b.say(m, now)
	m.expire(now)
	if got := len(m.Offers()); got != 1 {
		t.Errorf("%d offers", got)
	}
	if err := m.Launch("a-S0", node.Task{ID: "m3", Framework: "marathon"}); !errors.Is(err, node.ErrNoResources) {
		t.Errorf("launched on an unreachable agent: %v", err)
	}
	m.Kill("marathon", "m1") // gets lost
	a.say(m, now.Add(time.Minute))
	for id, want := range map[string]string{"m1": "RUNNING UNREACHABLE RUNNING", "c1": "RUNNING LOST RUNNING", "m2": "RUNNING"} {
		if got := states(h, id); got != want {
			t.Errorf("%s: %s", id, got)
		}
	}
	if len(a.kills) > 0 || len(m.Offers()) != 2 {
		t.Errorf("killed %v, %d offers", a.kills, len(m.Offers()))
	}
}

func TestAnOrderThatWasNotSeenIsForgottenWithItsNode(t *testing.T) {
	t.Parallel()
	m, h := newMaster(t, "")
	a := newHost("a", false)
	a.say(m, start)
	launch(t, m, "a-S0", "m1", 1)
	m.expire(start.Add(time.Minute))
	a.say(m, start.Add(2*time.Minute))
	if got := states(h, "m1"); got != "UNREACHABLE LOST" || len(a.tasks) != 0 {
		t.Errorf("states %s, tasks %v", got, a.tasks)
	}
}

func TestUpdatesAreToldOnceAndInOrder(t *testing.T) {
	t.Parallel()
	m, h := newMaster(t, "")
	a := newHost("a", false)
	a.say(m, start)
	launch(t, m, "a-S0", "m1", 1)
	a.say(m, start)
	again := slices.Clone(a.report.Updates)
	a.say(m, start)
	a.report.Updates = again // its acknowledgement was lost
	a.say(m, start)
	a.update("m1", node.Finished)
	again = slices.Clone(a.report.Updates)
	a.say(m, start)
	a.report.Updates = again
	a.say(m, start)
	late := a.report
	late.Number-- // overtaken
	late.Tasks = []node.Held{{ID: "m1", Framework: "marathon", State: node.Running}}
	if list, _, _, _ := m.take(late, start); len(list) != 0 {
		t.Errorf("a report that came late is taken: %v", list)
	}
	if got := states(h, "m1"); got != "RUNNING FINISHED" {
		t.Errorf("states %s", got)
	}
	if o := m.Offers()[0]; o.CPUs != 2 {
		t.Errorf("offers %g CPUs", o.CPUs)
	}
}

func TestANodeThatStartsAgainHasLostItsTasks(t *testing.T) {
	t.Parallel()
	m, h := newMaster(t, "")
	a := newHost("a", true)
	a.say(m, start)
	launch(t, m, "a-S0", "m1", 1)
	a.say(m, start)
	a.say(m, start)
	launch(t, m, "a-S0", "m2", 1) // not seen before the end
	a.restart()
	a.say(m, start)
	if states(h, "m1") != "RUNNING LOST" || states(h, "m2") != "LOST" || len(a.tasks) != 0 {
		t.Errorf("%v, has %v", h, a.tasks)
	}
	// One with another ID at the same address: the former is gone.
	launch(t, m, "a-S0", "m3", 1)
	a.say(m, start)
	b := newHost("a", true)
	b.report.Agent.ID = "other-S0"
	b.say(m, start)
	if got := states(h, "m3"); got != "GONE" {
		t.Errorf("m3: %s", got)
	}
}

func TestAMasterThatStartsAgainFindsWhatRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m, _ := newMaster(t, dir)
	a, b, own := newHost("a", true), newHost("b", true), newHost("own", false)
	for _, h := range []*host{a, b, own} {
		h.say(m, start)
		launch(t, m, h.report.Agent.ID, "m"+h.report.Agent.Hostname, 1)
		h.say(m, start)
		h.say(m, start)
	}
	if err := m.drainAgent("b-S0", node.DrainConfig{}); err != nil {
		t.Fatal(err)
	}
	if err := m.save(); err != nil {
		t.Fatal(err)
	}
	id := m.FrameworkID("marathon")
	m, h := newMaster(t, dir)
	if m.FrameworkID("marathon") != id {
		t.Error("the framework has another ID")
	}
	late := time.Now().Add(time.Minute)
	a.update("ma", node.Finished)    // while there was no master
	a.tasks["mstray"] = node.Running // whose launch was not saved
	a.say(m, late)
	m.expire(late) // b is not back
	for range 3 {
		b.say(m, late)
	}
	if got := fmt.Sprint(states(h, "ma"), ", ", states(h, "mb"), ", ", states(h, "mstray"), ", ", states(h, "mown")); got != "FINISHED, UNREACHABLE RUNNING KILLED, RUNNING, " {
		t.Error(got)
	}
	if b.drained == nil || m.agents["b-S0"].drain.State != drained {
		t.Error("the drain is forgotten")
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	m, h := newMaster(t, "")
	a := newHost("a", false)
	a.say(m, start)
	launch(t, m, "a-S0", "m1", 1)
	a.say(m, start)
	a.say(m, start)
	for _, bad := range []error{m.drainAgent("none", node.DrainConfig{}), m.reactivateAgent("a-S0"), m.deactivateAgent("none")} {
		if bad == nil {
			t.Error("taken")
		}
	}
	if err := m.drainAgent("a-S0", node.DrainConfig{MaxGrace: &node.DurationInfo{Nanoseconds: 5}}); err != nil {
		t.Fatal(err)
	}
	if err := m.reactivateAgent("a-S0"); !errors.Is(err, errStillDraining) {
		t.Error(err)
	}
	a.say(m, start)
	a.say(m, start)
	if a.drained == nil || a.drained.MaxGrace.Nanoseconds != 5 || states(h, "m1") != "RUNNING KILLED" || m.agents["a-S0"].drain.State != drained || len(m.Offers()) != 0 {
		t.Errorf("%+v, %v, %+v", a.drained, h, m.agents["a-S0"].drain)
	}
	if err := m.reactivateAgent("a-S0"); err != nil || len(m.Offers()) != 1 {
		t.Errorf("%v, %d offers", err, len(m.Offers()))
	}
	if err := m.drainAgent("a-S0", node.DrainConfig{MarkGone: true}); err != nil { // it has no tasks
		t.Fatal(err)
	}
	a.say(m, start)
	if a.down == "" || len(m.slaves()["slaves"].([]slaveJSON)) != 0 {
		t.Error("an agent that is gone is taken back")
	}
}

func TestMaintenance(t *testing.T) {
	t.Parallel()
	m, h := newMaster(t, "")
	a := newHost("A", false)
	a.report.Agent.Address = "10.0.0.1:5051"
	a.say(m, start)
	launch(t, m, "A-S0", "m1", 1)
	a.say(m, start)
	a.say(m, start)
	id := []MachineID{{Hostname: "a", IP: "10.0.0.1"}}
	if err := m.machinesDown(id); err == nil {
		t.Error("brought down without a schedule")
	}
	plan := func(ids []MachineID) Schedule {
		return Schedule{Windows: []Window{{Machines: ids, Unavailability: unavailability{Start: nanoseconds{start.UnixNano()}}}}}
	}
	for name, bad := range map[string]Schedule{
		"no machine": plan(nil), "no name": plan([]MachineID{{}}), "twice": plan(append(id, id...)), "no address": plan([]MachineID{{IP: "x"}}),
	} {
		if m.setSchedule(bad) == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := m.setSchedule(plan([]MachineID{{Hostname: "a"}})); err != nil || m.Offers()[0].Planned != nil {
		t.Errorf("a machine without its address is the agent's: %v", err)
	}
	if err := m.setSchedule(plan(id)); err != nil || !m.Offers()[0].Planned.During(start) {
		t.Errorf("%v, %+v", err, m.Offers())
	}
	if err := m.drainAgent("A-S0", node.DrainConfig{}); err == nil {
		t.Error("drained while in a schedule")
	}
	if err := m.machinesDown(id); err != nil {
		t.Fatal(err)
	}
	a.say(m, start)
	if states(h, "m1") != "RUNNING GONE" || a.down == "" || len(m.Offers()) != 0 {
		t.Errorf("%v, told %q", h, a.down)
	}
	if m.setSchedule(Schedule{}) == nil {
		t.Error("a machine that is down vanishes from the schedule")
	}
	if err := m.machinesUp(id); err != nil || len(m.schedule.Windows) != 0 {
		t.Fatal(err, m.schedule)
	}
	clear(a.tasks)
	a.say(m, start)
	if len(m.Offers()) != 1 {
		t.Error("not back")
	}
}

func FuzzReport(f *testing.F) {
	f.Add([]byte(`{"protocol":1,"agent":{"id":"S0","hostname":"h","address":"h:1","cpus":1,"first_port":1},"life":"x","number":1,"tasks":[{"id":"a","framework":"marathon","state":"TASK_RUNNING"}],"updates":[{"uuid":"u","framework":"none","status":{"TaskID":"a","State":"TASK_FINISHED"}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, _ := newMaster(t, "")
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // no waiting
		for range 2 {
			serveReport(ctx, m, data)
		}
	})
}
