package agent

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"qosctl/agent/api"
	"qosctl/ckpt"
	"qosctl/qos"
)

// TestAJobThatLandsWhereNothingCanBeRestoredIsGivenBack: its task ends at once, its checkpoint stays, and the next task goes on from it.
func TestAJobThatLandsWhereNothingCanBeRestoredIsGivenBack(t *testing.T) {
	t.Parallel()
	for name, land := range map[string]func(n *node, k *fakeKeeper) *api.Standin{
		"no driver": func(n *node, k *fakeKeeper) *api.Standin {
			k.none.Store(true)
			s, _ := n.claim(idA, "t2")
			return s
		},
		"no Docker": func(n *node, _ *fakeKeeper) *api.Standin {
			n.end()
			n.keeper = nil
			n.begin()
			s, _ := n.claim(idA, "t2")
			return s
		},
		"no Docker any more": func(n *node, k *fakeKeeper) *api.Standin { // the agent before this one had begun to restore it
			begun := make(chan struct{})
			k.restoring = func(ctx context.Context) error { close(begun); <-ctx.Done(); return ctx.Err() }
			n.claim(idA, "t2")
			<-begun
			n.end()
			k.restoring = nil
			n.keeper = nil
			n.begin()
			return n.standin(idA)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := &fakeKeeper{}
			n := testDocker(t, k, nil)
			defer func() { n.keeper = k }() // which clears up
			n.submit(idA, dockerJob(`exec sleep 1000`))
			s, _ := n.claim(idA, "t1")
			n.await(idA, "running", func(j api.Job) bool { return j.Progress > 0 })
			stop(t, s, "t1")
			n.read(s, "t1")
			s = land(n, k)
			if _, _, code := n.read(s, "t2"); code != exitElsewhere {
				t.Errorf("code %d", code)
			}
			n.await(idA, "suspended", func(j api.Job) bool { return j.Phase == qos.PhaseSuspended || j.Phase == qos.PhasePending })
			n.end()
			n.keeper = k
			k.none.Store(false)
			n.begin()
			n.claim(idA, "t3")
			n.await(idA, "running again", isRunning)
			if len(k.restored) == 0 || len(k.held()) != 1 {
				t.Errorf("restored %v of %+v", k.restored, k.held())
			}
		})
	}
}

// tested is a keeper whose self-tests find what the test wants.
type tested struct {
	checkpointer
	find   []ckpt.Report // by the tests to come; afterwards the last one's
	report ckpt.Report
	at     []time.Time
}

func (k *tested) Report() ckpt.Report { return k.report }

func (k *tested) Test(context.Context) ckpt.Report {
	k.at = append(k.at, time.Now())
	if len(k.find) > 0 {
		k.report, k.find = k.find[0], k.find[1:]
	}
	return k.report
}

func TestASelfTestIsRepeatedUntilADriverPasses(t *testing.T) {
	t.Parallel()
	away := ckpt.Report{Checks: []ckpt.Check{{Name: "docker"}}}
	bad := ckpt.Report{Checks: []ckpt.Check{{Name: "docker", OK: true}, {Name: "driver runtime"}}}
	good := ckpt.Report{Driver: "runtime"}
	for name, c := range map[string]struct {
		driver string
		find   []ckpt.Report
		want   []int // minutes
	}{
		"Docker comes late":      {"auto", []ckpt.Report{away, away, away, good}, []int{1, 2, 3, 4}},
		"the node is loaded":     {"auto", []ckpt.Report{bad, bad, bad, good}, []int{1, 3, 7, 15}},
		"it never passes":        {"auto", nil, []int{1, 3, 7, 15, 31, 63, 123, 183, 243}},
		"nobody wants it":        {"none", nil, nil},
		"what passed is at rest": {"auto", []ckpt.Report{good}, []int{1}},
	} {
		synctest.Test(t, func(t *testing.T) {
			k := &tested{find: c.find, report: bad}
			a := &Agent{cfg: Default(), log: slog.New(slog.DiscardHandler), engines: engines{keeper: k}}
			a.cfg.Checkpoint.Driver = c.driver
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Hour)
			defer cancel()
			begin := time.Now()
			a.testAgain(ctx)
			var got []int
			for _, at := range k.at {
				got = append(got, int(at.Sub(begin).Minutes()))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s: tested after %v minutes, want %v", name, got, c.want)
			}
		})
	}
}
