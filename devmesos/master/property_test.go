package master

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"qosctl/devmesos/node"
)

// TestMasterAndNodesAgree loses nodes, messages, masters and processes of nodes: when all is calm again, the master has of each node just the
// tasks that it has, and no task ever went on for its framework after a terminal state.
func TestMasterAndNodesAgree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{rt: rt, t: t, dir: fmt.Sprintf("%s/%s", dir, node.NewUUID()), now: time.Now(), all: heard{}}
		w.startMaster()
		for _, name := range []string{"a", "b", "c"} {
			w.hosts = append(w.hosts, newHost(name, true))
		}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			w.step()
		}
		for range 4 {
			for _, h := range w.hosts {
				h.say(w.m, w.now)
			}
			w.m.expire(w.now)
		}
		w.check()
	})
}

type world struct {
	rt    *rapid.T
	t     *testing.T
	dir   string
	m     *Master
	hosts []*host
	now   time.Time
	tasks int
	all   heard
}

func (w *world) startMaster() {
	m, err := New(Options{Dir: w.dir, PingTimeout: 10 * time.Second})
	if err != nil {
		w.rt.Fatal(err)
	}
	m.Register("marathon", true, w.all.take, func() {})
	m.Register("chronos", false, w.all.take, func() {})
	w.m = m
}

func (w *world) step() {
	h := w.hosts[rapid.IntRange(0, len(w.hosts)-1).Draw(w.rt, "node")]
	switch rapid.IntRange(0, 9).Draw(w.rt, "act") {
	case 0, 1, 2:
		h.say(w.m, w.now)
	case 3, 4:
		w.tasks++
		id := fmt.Sprintf("%s%d", rapid.SampledFrom([]string{"m", "c"}).Draw(w.rt, "framework"), w.tasks)
		_ = w.m.Launch(h.report.Agent.ID, node.Task{ID: id, Framework: framed(id), CPUs: 1}) // there may be no offer
	case 5:
		for id := range maps.Clone(h.tasks) {
			h.update(id, rapid.SampledFrom([]node.State{node.Finished, node.Running}).Draw(w.rt, "state"))
		}
	case 6:
		w.now = w.now.Add(time.Duration(rapid.IntRange(1, 20).Draw(w.rt, "s")) * time.Second)
		w.m.expire(w.now)
	case 7:
		h.restart()
	case 8:
		if rapid.Bool().Draw(w.rt, "saved") {
			if err := w.m.save(); err != nil {
				w.rt.Fatal(err)
			}
		}
		w.startMaster()
	case 9:
		for id := range h.tasks {
			w.m.Kill(framed(id), id)
		}
		w.m.wg.Wait() // answers about tasks that nobody knows
	}
}

func (w *world) check() {
	for _, h := range w.hosts {
		var has, known []string
		has = slices.Sorted(maps.Keys(h.tasks))
		for _, r := range w.m.on(h.report.Agent.ID) {
			known = append(known, r.ID)
		}
		if !slices.Equal(has, known) {
			w.rt.Fatalf("node %s has %v, the master thinks %v", h.report.Agent.Hostname, has, known)
		}
		if free := w.m.offer(w.m.agents[h.report.Agent.ID]).CPUs; free < 0 {
			w.rt.Fatalf("%g CPUs free", free)
		}
	}
	for id, said := range w.all {
		if at := slices.IndexFunc(said, func(s string) bool { return s == "FINISHED" || s == "KILLED" }); at >= 0 {
			for _, s := range said[at+1:] {
				if s == "RUNNING" { // a master that starts again may have forgotten the end, and say that it is lost
					w.rt.Fatalf("task %s: %v", id, said)
				}
			}
		}
	}
}
