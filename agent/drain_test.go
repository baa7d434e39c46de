package agent

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/agent/api"
	"qosctl/qos"
)

const idC = "0000000c-0000-4000-8000-00000000000c"

func TestADrainMovesJobsOneAfterTheOtherTheTightestFirst(t *testing.T) {
	t.Parallel()
	c, p := movers(t, 2, nil)
	a, b := c.nodes[0], c.nodes[1]
	ids := map[string]string{"/wide": idA, "/tight": idB, "/middle": idC}
	a.submit(idA, named("/wide", spins, 3000))
	a.submit(idB, named("/tight", spins, 100))
	a.submit(idC, named("/middle", spins, 1000))
	tasks := map[string]*api.Standin{}
	for name, id := range ids {
		tasks[name], _ = c.claimAt(a, id, "first"+name)
		a.await(id, "running", atWork)
	}
	if _, err := b.client().Drain(t.Context(), api.Drain{Node: "n9", On: true}); !api.IsStatus(err, 404) {
		t.Errorf("drain of a node that is not there: %v", err)
	}
	d, err := b.client().Drain(t.Context(), api.Drain{Node: "n0", On: true, Reason: "new kernel"})
	if err != nil || !strings.Contains(d.How, "told which host may have it (constraints)") {
		t.Fatalf("drain: %+v, %v", d, err)
	}
	for i, name := range []string{"/tight", "/middle", "/wide"} { // the framework does as it is told
		c.until("the framework is told of "+name, func() bool { return len(p.all()) > i })
		if diff := cmp.Diff(name+" n1", p.all()[i]); diff != "" {
			t.Fatalf("move %d (-want +got):\n%s", i, diff)
		}
		a.agent.drain(t.Context(), time.Now()) // another round starts no second move
		s, err := b.client().DrainStatus(t.Context(), "n0")
		if err != nil || s.Draining != "new kernel" || len(s.Left) != 3-i || len(p.all()) != i+1 {
			t.Errorf("left: %+v, %v; told %v", s, err, p.all())
		}
		if !slices.ContainsFunc(s.Left, func(l api.Leaving) bool { return l.Name == name && l.To == "n1" }) {
			t.Errorf("%s is not shown on its way: %+v", name, s.Left)
		}
		stop(t, tasks[name], "first"+name)
		_, _ = c.claimAt(b, ids[name], "second"+name)
		b.await(ids[name], "there", func(j api.Job) bool { return atWork(j) && j.Owner == "n1" })
	}
	c.until("the node is empty", func() bool {
		s, err := b.client().DrainStatus(t.Context(), "n0")
		return err == nil && len(s.Left) == 0
	})
	if _, err := a.client().Migrate(t.Context(), idA, api.Migrate{To: "n0"}); err == nil || !strings.Contains(err.Error(), "it is being drained") {
		t.Errorf("a move to the node: %v", err)
	}
	a.end() // it stays so over a restart
	a.begin()
	if h, err := a.client().Holds(t.Context()); err != nil || h.Draining["n0"] != "new kernel" {
		t.Errorf("after a restart: %+v, %v", h, err)
	}
	if _, err := b.client().Drain(t.Context(), api.Drain{Node: "n0"}); err != nil {
		t.Fatal(err)
	}
	last := ""
	c.until("both know that it is used again", func() bool { return !a.agent.draining() && len(b.agent.holds().Draining) == 0 })
	c.until("a job may go there again", func() bool {
		_, err := b.client().Migrate(t.Context(), idA, api.Migrate{To: "n0"})
		if err != nil && last != err.Error() {
			last = err.Error()
			t.Log("not yet:", last)
		}
		return err == nil
	})
}

func TestADrainNamesWhatCantLeaveOnce(t *testing.T) {
	t.Parallel()
	c, p := movers(t, 2, func(i int, n *node) {
		if i == 1 {
			n.cfg.Control.CPUs, n.cfg.Control.Reserve = 0.1, 0
		}
	})
	a := c.nodes[0]
	a.submit(idA, named("/a", spins, 600))
	_, _ = c.claimAt(a, idA, "t1")
	a.await(idA, "running", atWork)
	if _, err := a.client().Drain(t.Context(), api.Drain{Node: "n0", On: true}); err != nil {
		t.Fatal(err)
	}
	j := a.agent.jobs.get(idA)
	for i := range 3 {
		a.agent.drain(t.Context(), time.Now().Add(time.Duration(i)*time.Minute))
	}
	s, err := c.nodes[1].client().DrainStatus(t.Context(), "n0")
	if err != nil || len(s.Left) != 1 || !strings.Contains(s.Left[0].Text, "it has room for 0.10 CPUs, not for 0.20") || s.Left[0].Stays {
		t.Errorf("left %+v, %v", s, err)
	}
	said := 0
	for _, e := range a.agent.explain(j).Events {
		if strings.Contains(e.Text, "the node is being drained, but:") {
			said++
		}
	}
	if said != 1 || len(p.all()) != 0 {
		t.Errorf("said %d times; told %v", said, p.all())
	}
}

func TestAHeldNodeIsNotDrained(t *testing.T) {
	t.Parallel()
	c, p := movers(t, 2, nil)
	a := c.nodes[0]
	a.submit(idA, named("/a", spins, 600))
	_, _ = c.claimAt(a, idA, "t1")
	a.await(idA, "running", atWork)
	if _, err := a.client().Hold(t.Context(), api.Hold{On: true, Node: "n0", Reason: "exam"}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.client().Drain(t.Context(), api.Drain{Node: "n0", On: true}); err != nil {
		t.Fatal(err)
	}
	a.agent.drain(t.Context(), time.Now())
	if v := a.agent.show(a.agent.jobs.get(idA), false); v.Moving != "" || len(p.all()) != 0 {
		t.Errorf("%+v; told %v", v, p.all())
	}
	c.until("the other node knows", func() bool { return len(c.nodes[1].agent.holds().Nodes) == 1 })
	if _, err := c.nodes[1].client().Hold(t.Context(), api.Hold{Node: "n0"}); err != nil {
		t.Fatal(err)
	}
	c.until("it is drained after all", func() bool { return slices.Equal(p.all(), []string{"/a n1"}) })
}

// hungry is a plain process that needs more CPU than it asked for.
const hungry = `{"id":"/hungry","cmd":"while :; do :; done","cpus":0.1,"mem":32,"qos":{"duration":20,"desv_deadline":0.1,"deadline":60}}`

func TestNothingIsResizedOnHoldAndDecisionsGoOnAfterwards(t *testing.T) {
	t.Parallel()
	for _, hold := range []api.Hold{{All: true}, {Node: "n0"}, {Job: idA}} {
		t.Run(strings.Trim(strings.Join([]string{hold.Node, hold.Job[:min(1, len(hold.Job))]}, ""), " ")+"held", func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, 2, nil)
			a, b := c.nodes[0], c.nodes[1]
			a.submit(idA, hungry)
			c.until("both know the job", func() bool { _, ok := b.shared(idA); return ok })
			on := hold
			on.On, on.Reason = true, "exam"
			if _, err := b.client().Hold(t.Context(), on); err != nil { // at the other node
				t.Fatal(err)
			}
			c.until("the hold is known", func() bool {
				return cmp.Equal(a.agent.holds(), b.agent.holds()) && a.agent.holds().Nodes != nil && heldAnything(a)
			})
			a.end() // and stands over a restart
			a.begin()
			_, _ = c.claimAt(a, idA, "t1")
			a.await(idA, "running", func(j api.Job) bool { return j.Container != "" && j.Allocation > 0 })
			c.until("more CPU was wanted, again and again", func() bool {
				e, err := a.client().Explain(t.Context(), idA)
				n := 0
				for _, d := range e.Decisions {
					if d.To > d.From {
						n++
					}
				}
				return err == nil && n >= 5
			})
			v, err := a.client().Job(t.Context(), idA)
			if err != nil || v.Allocation != 0.1 || v.Tally.Resizes != 0 || !strings.HasSuffix(v.Held, "on hold: exam") {
				t.Errorf("on hold: %+v, %v", v, err)
			}
			c.until("the other node shows it", func() bool {
				v, err := b.client().Job(t.Context(), idA)
				list, err2 := b.client().Jobs(t.Context(), false)
				return err == nil && err2 == nil && v.Held != "" && len(list) == 1 && list[0].Held != "" && list[0].Owner == "n0"
			})
			if _, err := b.client().Hold(t.Context(), hold); err != nil {
				t.Fatal(err)
			}
			a.await(idA, "resized", func(j api.Job) bool { return j.Allocation > 0.1 && j.Held == "" })
		})
	}
}

func heldAnything(n *node) bool {
	h := n.agent.holds()
	return h.All != "" || len(h.Nodes) > 0 || len(h.Jobs) > 0
}

func TestWhatIsLeftOfANodeThatIsGoneIsToldByTheTable(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2, func(_ int, n *node) { n.cfg.Cluster.Grace = time.Hour })
	a, b := c.nodes[0], c.nodes[1]
	a.submit(idA, sleeper)
	_, _ = c.claimAt(a, idA, "t1")
	c.until("both know that it runs", func() bool { s, _ := b.shared(idA); return s.Phase == qos.PhaseRunning })
	a.end()
	c.until("the node does not answer", func() bool { return b.agent.stateOf("n0", time.Now()) != nodeAlive })
	s, err := b.client().DrainStatus(context.Background(), "n0")
	if err != nil || len(s.Left) != 1 || s.Left[0].Text != "node n0 does not answer" {
		t.Errorf("left %+v, %v", s, err)
	}
}

func TestAJobThatEndedOnItsWayKeepsNobodyFromLeaving(t *testing.T) {
	t.Parallel()
	c, p := movers(t, 2, nil)
	a := c.nodes[0]
	now := time.Now()
	ended := newJob(row{Record: qos.Record{Spec: qos.Spec{ID: idA, Name: "/a", Framework: qos.Marathon}, Status: qos.Status{Phase: qos.PhaseRunning, Owner: "n0"}}})
	ended.row.Local.Move = &move{State: moveAsked, Node: "n1", At: now}
	if err := ended.enter(qos.PhaseEnded, now, "its last iteration"); err != nil {
		t.Fatal(err)
	}
	if err := ended.enter(qos.PhaseCompleted, now, "all are done"); err != nil || ended.row.Local.Move != nil {
		t.Errorf("it is still on its way: %+v, %v", ended.row.Local.Move, err)
	}
	ended.row.Local.Move = &move{State: moveAsked, Node: "n1", At: now} // as an agent before this one has left it
	a.agent.jobs.add(ended)
	a.submit(idB, named("/b", spins, 600))
	_, _ = c.claimAt(a, idB, "t1")
	a.await(idB, "running", atWork)
	if _, err := a.client().Drain(t.Context(), api.Drain{Node: "n0", On: true}); err != nil {
		t.Fatal(err)
	}
	c.until("the other job leaves", func() bool { return slices.Contains(p.all(), "/b n1") })
}
