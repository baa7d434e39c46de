package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/agent/api"
	"qosctl/ckpt"
	"qosctl/qos"
)

// movingPort is a framework that can be told where to run a job. It does nothing about it: the test ends and starts tasks.
type movingPort struct {
	*fakePort

	mu     sync.Mutex
	told   []relocation
	undone []string
	refuse error
}

func (p *movingPort) Relocate(_ context.Context, r relocation) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != nil {
		return "", p.refuse
	}
	p.told = append(p.told, r)
	return fmt.Sprintf("deployment %d", len(p.told)), nil
}

func (p *movingPort) Undo(_ context.Context, deployment string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.undone = append(p.undone, deployment)
	return nil
}

// all are the hosts that the framework was told, as "/job n1".
func (p *movingPort) all() (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.told {
		list = append(list, strings.TrimSpace(r.Name+" "+strings.Join(r.Hosts, ",")))
	}
	return list
}

// movers is a cluster whose framework can move jobs; all nodes can checkpoint jobs with an image.
func movers(t *testing.T, n int, set func(i int, n *node)) (*trio, *movingPort) {
	t.Helper()
	p := &movingPort{}
	var once sync.Once
	c := startCluster(t, n, func(i int, n *node) {
		n.keeper = &fakeKeeper{}
		n.ports = func(f *fakePort) port {
			once.Do(func() { p.fakePort = f }) // all nodes have the same
			return p
		}
		if set != nil {
			set(i, n)
		}
	})
	c.until("all know that all can checkpoint", func() bool {
		return !slices.ContainsFunc(c.nodes, func(x *node) bool {
			return slices.ContainsFunc(x.agent.nodes(time.Now()).Nodes, func(p api.Peer) bool { return !p.Checkpoints || p.Hostname == "" || p.CPUs == 0 })
		})
	})
	return c, p
}

// named is a docker job of its own name and deadline in seconds.
func named(name, cmd string, deadline int) string {
	return fmt.Sprintf(`{"id":%q,"cmd":%q,"cpus":0.2,"mem":32,"container":{"type":"DOCKER","docker":{"image":"img"}},
		"qos":{"duration":10,"desv_deadline":0.1,"deadline":%d,"executions":1}}`, name, cmd, deadline)
}

const spins = "while :; do :; done"

// atWork says that a job's present container has used CPU.
func atWork(j api.Job) bool {
	return j.Phase == qos.PhaseRunning && j.Account != nil && j.Account.Entries[j.Account.Live].Own > 0
}

func TestAJobIsMovedToTheNamedNodeAndGoesOnThere(t *testing.T) {
	t.Parallel()
	c, p := movers(t, 3, nil)
	a, b := c.nodes[0], c.nodes[1]
	a.submit(idA, named("/a", spins, 600))
	s, _ := c.claimAt(a, idA, "t1")
	a.await(idA, "running", atWork)
	c.until("the third node knows that it runs", func() bool { s, _ := c.nodes[2].shared(idA); return s.Phase == qos.PhaseRunning })
	m, err := c.nodes[2].client().Migrate(t.Context(), idA, api.Migrate{To: "n1", Reason: "a test"}) // asked of a third node
	if err != nil || m.To != "n1" || !strings.Contains(m.How, "host n1 alone") || m.Job.Moving != "n1" {
		t.Fatalf("migrate: %+v, %v", m, err)
	}
	c.until("the framework is told", func() bool { return slices.Equal(p.all(), []string{"/a n1"}) })
	if _, err := a.client().Migrate(t.Context(), idA, api.Migrate{}); !api.IsStatus(err, 409) || !strings.Contains(err.Error(), "being moved") {
		t.Errorf("a second move at once: %v", err)
	}
	stop(t, s, "t1") // as Marathon does
	if _, _, code := a.read(s, "t1"); code != 143 {
		t.Errorf("the task exited %d", code)
	}
	_, _ = c.claimAt(b, idA, "t2")
	v := b.await(idA, "running there", func(j api.Job) bool { return atWork(j) && j.Owner == "n1" && j.Moving == "" })
	if e := v.Account.Entries[v.Account.Live]; len(v.Account.Entries) != 2 || e.Base == 0 || e.Node != "n1" {
		t.Errorf("account %+v", v.Account)
	}
	b.keeper.mu.Lock()
	restored := len(b.keeper.restored)
	b.keeper.mu.Unlock()
	if restored != 1 || len(p.all()) != 1 || v.Tally.Failed != 0 {
		t.Errorf("restored %d times; told %v; %+v", restored, p.all(), v.Tally)
	}
	c.until("the former owner has the new one explain", func() bool {
		e, err := a.client().Explain(t.Context(), idA)
		return err == nil && e.Job.Owner == "n1"
	})
}

func TestAMoveIsRefusedByReason(t *testing.T) {
	t.Parallel()
	c, p := movers(t, 3, func(i int, n *node) {
		switch i {
		case 1:
			n.keeper.class = ckpt.Class{Kernel: "other"}
		case 2:
			n.cfg.Control.CPUs, n.cfg.Control.Reserve = 0.1, 0
		}
	})
	a := c.nodes[0]
	a.submit(idA, named("/a", spins, 600))
	a.submit(idB, `{"id":"/plain","cmd":"sleep 1000","cpus":0.05,"mem":32,"qos":{"duration":5,"desv_deadline":0.1,"deadline":60}}`)
	refused := func(job, to, want string) {
		t.Helper()
		var err error
		c.until("migrate "+job+" is refused: "+want, func() bool { // a node that is slow to answer is taken for dead for a moment
			_, err = a.client().Migrate(t.Context(), job, api.Migrate{To: to})
			return err != nil && (strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), fmt.Sprintf("no node %q answers", to)))
		})
		if !strings.Contains(err.Error(), want) {
			t.Errorf("migrate %s to %q: %v, want %q", job, to, err, want)
		}
	}
	refused("/a", "", "has no task now")
	_, _ = c.claimAt(a, idA, "t1")
	_, _ = c.claimAt(a, idB, "t2")
	a.await(idA, "running", atWork)
	a.await(idB, "running", func(j api.Job) bool { return j.Container != "" && j.Allocation > 0 })
	refused("/a", "n1", "it is of another restore class")
	refused("/a", "n2", "it has room for 0.10 CPUs, not for 0.20")
	refused("/a", "n0", "is on node n0 already")
	refused("/a", "n9", `no node "n9" answers`)
	refused("/a", "", "no other node can have /a: [n1: it is of another restore class (CPU, kernel, CRIU, runc or driver) n2: it has room")
	refused("/plain", "", "is a plain process")
	if _, err := a.client().Hold(t.Context(), api.Hold{On: true, Job: "/a", Reason: "exam"}); err != nil {
		t.Fatal(err)
	}
	refused("/a", "n1", "it is on hold: exam")
	if len(p.all()) != 0 {
		t.Errorf("the framework was told %v", p.all())
	}
}

func TestAnAgentThatIsAloneMovesNothing(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, sleeper)
	for what, err := range map[string]error{
		"migrate": second(n.client().Migrate(t.Context(), idA, api.Migrate{})),
		"drain":   second(n.client().Drain(t.Context(), api.Drain{Node: "testnode", On: true})),
		"keyring": second(n.client().Keyring(t.Context())),
	} {
		if !api.IsStatus(err, 409) || !strings.Contains(err.Error(), "alone") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if s, err := n.client().DrainStatus(t.Context(), "testnode"); err != nil || len(s.Left) != 0 || s.Draining != "" {
		t.Errorf("what is left: %+v, %v", s, err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestAMoveThatBringsNoTaskIsTakenBack(t *testing.T) {
	t.Parallel()
	c, p := movers(t, 2, func(_ int, n *node) { n.cfg.Control.MoveTimeout = time.Second })
	a := c.nodes[0]
	a.submit(idA, named("/a", spins, 600))
	s, _ := c.claimAt(a, idA, "t1")
	a.await(idA, "running", atWork)
	if _, err := a.client().Migrate(t.Context(), idA, api.Migrate{}); err != nil {
		t.Fatal(err)
	}
	c.until("the framework is told", func() bool { return slices.Equal(p.all(), []string{"/a n1"}) })
	stop(t, s, "t1")
	a.await(idA, "given back", func(j api.Job) bool { return j.Moving == "" })
	p.mu.Lock()
	undone := slices.Clone(p.undone)
	p.mu.Unlock()
	if diff := cmp.Diff([]string{"deployment 1"}, undone); diff != "" {
		t.Errorf("undone (-want +got):\n%s", diff)
	}
	_, _ = c.claimAt(a, idA, "t2")
	v := a.await(idA, "running again", atWork)
	if v.Owner != "n0" || v.Tally.Failed != 0 || len(v.Account.Entries) != 2 {
		t.Errorf("%+v", v)
	}
	e, err := a.client().Explain(t.Context(), idA)
	if err != nil || !slices.ContainsFunc(e.Events, func(e api.Event) bool { return strings.Contains(e.Text, "taken back: it may run anywhere") }) {
		t.Errorf("events %+v, %v", e.Events, err)
	}
}

func TestAMoveThatTheFrameworkRefusesChangesNothing(t *testing.T) {
	t.Parallel()
	c, p := movers(t, 2, nil)
	a := c.nodes[0]
	a.submit(idA, named("/a", spins, 600))
	_, _ = c.claimAt(a, idA, "t1")
	before := a.await(idA, "running", atWork)
	p.mu.Lock()
	p.refuse = errors.New("no such attribute")
	p.mu.Unlock()
	if _, err := a.client().Migrate(t.Context(), idA, api.Migrate{}); err != nil {
		t.Fatal(err)
	}
	after := a.await(idA, "left alone", func(j api.Job) bool { return j.Moving == "" })
	if after.Container != before.Container || after.Phase != qos.PhaseRunning {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// series counts runs in a file, and lets none end before the gate is there.
func series(dir string, n int) string {
	return fmt.Sprintf(`{"name":"s","command":"echo run >> %[1]s/runs; while [ ! -e %[1]s/gate ]; do sleep 0.05; done; sleep 0.3",
		"schedule":"R%[2]d//PT1M","cpus":0.2,"mem":32,"qos":{"duration":1,"desv_deadline":0.2,"deadline":600}}`, dir, n)
}

func runs(t *testing.T, dir string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "runs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(b), "run\n")
}

func TestASeriesOfPlainProcessesMovesBetweenTwoIterations(t *testing.T) {
	t.Parallel()
	c, p := movers(t, 2, nil)
	a, b, dir := c.nodes[0], c.nodes[1], t.TempDir()
	a.submit(idA, series(dir, 2))
	s, _ := c.claimAt(a, idA, "t1")
	a.await(idA, "running", func(j api.Job) bool { return j.Container != "" && runs(t, dir) == 1 })
	if _, err := a.client().Migrate(t.Context(), idA, api.Migrate{To: "n1"}); err != nil {
		t.Fatal(err)
	}
	if err := a.agent.tend(t.Context(), a.agent.jobs.get(idA), time.Now()); err != nil {
		t.Fatal(err)
	}
	if len(p.all()) != 0 {
		t.Errorf("told %v in the middle of an iteration", p.all())
	}
	if err := os.WriteFile(filepath.Join(dir, "gate"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, code := a.read(s, "t1"); code != 0 {
		t.Errorf("the task exited %d, not as done", code)
	}
	if diff := cmp.Diff([]string{"s n1"}, p.all()); diff != "" || runs(t, dir) != 1 {
		t.Errorf("told (-want +got):\n%s%d iterations", diff, runs(t, dir))
	}
	c.until("chronos is asked to start it again", func() bool {
		p.fakePort.mu.Lock()
		defer p.fakePort.mu.Unlock()
		return p.starts > 0
	})
	s2, _ := c.claimAt(b, idA, "t2")
	if _, _, code := b.read(s2, "t2"); code != 0 {
		t.Errorf("the second task exited %d", code)
	}
	v := b.await(idA, "completed", inPhase(qos.PhaseCompleted))
	if v.Owner != "n1" || v.Tally.Succeeded != 2 || v.Tally.Failed != 0 || runs(t, dir) != 2 {
		t.Errorf("%+v, %d runs", v.Tally, runs(t, dir))
	}
}

func TestAHoldStopsAMoveThatIsNotSentYet(t *testing.T) {
	t.Parallel()
	c, p := movers(t, 2, nil)
	a, dir := c.nodes[0], t.TempDir()
	a.submit(idA, series(dir, 50))
	_, _ = c.claimAt(a, idA, "t1")
	a.await(idA, "running", func(j api.Job) bool { return j.Container != "" && runs(t, dir) == 1 })
	if _, err := a.client().Migrate(t.Context(), idA, api.Migrate{To: "n1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.nodes[1].client().Hold(t.Context(), api.Hold{On: true, Node: "n0", Reason: "exam"}); err != nil {
		t.Fatal(err)
	}
	c.until("it is on hold", func() bool { return a.agent.heldHere() != "" })
	if err := os.WriteFile(filepath.Join(dir, "gate"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.until("it goes on here", func() bool { return runs(t, dir) >= 2 })
	if v := a.await(idA, "shown as held", func(j api.Job) bool { return j.Held != "" }); v.Moving != "n1" || len(p.all()) != 0 {
		t.Errorf("%+v; told %v", v, p.all())
	}
	if _, err := a.client().Hold(t.Context(), api.Hold{Node: "n0"}); err != nil {
		t.Fatal(err)
	}
	c.until("it moves after all", func() bool { return slices.Equal(p.all(), []string{"s n1"}) })
}

func TestAJobThatItsNodeHasNoRoomForIsMovedByItself(t *testing.T) {
	t.Parallel()
	c, p := movers(t, 2, func(_ int, n *node) {
		n.cfg.Control.CPUs, n.cost = 0.6, 0.05
	})
	a := c.nodes[0]
	// each needs about half a CPU from now on, and a node has 0.6 for all
	for id, name := range map[string]string{idA: "/a", idB: "/b"} {
		a.submit(id, fmt.Sprintf(`{"id":%q,"cmd":%q,"cpus":0.1,"mem":32,"container":{"type":"DOCKER","docker":{"image":"img"}},
			"qos":{"duration":220,"desv_deadline":0.1,"deadline":600,"executions":1}}`, name, spins))
		_, _ = c.claimAt(a, id, "t"+id)
	}
	c.until("the framework is told to run one of them elsewhere", func() bool { return len(p.all()) == 1 })
	if got := p.all()[0]; got != "/a n1" && got != "/b n1" {
		t.Errorf("it was told %s", got)
	}
	e, err := a.client().Explain(t.Context(), strings.Fields(p.all()[0])[0])
	if err != nil || e.Job.Moving != "n1" {
		t.Errorf("%+v, %v", e.Job, err)
	}
	for _, id := range []string{idA, idB} {
		if _, err := a.client().Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		a.await(id, "cancelled", inPhase(qos.PhaseCancelled))
	}
}
