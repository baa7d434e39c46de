package agent

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/gossip"
	"qosctl/qos"
)

func TestAnAppIsBoundToHostsBesideItsOwnConstraints(t *testing.T) {
	t.Parallel()
	p := &marathonPort{}
	for body, want := range map[string]string{
		`{"id":"/a","cpus":0.1}`:                             `{"constraints":[["hostname","LIKE","n1\\.x|n2"]],"cpus":0.1,"id":"/a"}`,
		`{"id":"/a","constraints":[["qosctl","LIKE",".+"]]}`: `{"constraints":[["qosctl","LIKE",".+"],["hostname","LIKE","n1\\.x|n2"]],"id":"/a"}`,
	} {
		got, err := p.Bind(json.RawMessage(body), []string{"n1.x", "n2"})
		if err != nil {
			t.Error(err)
		}
		if d := cmp.Diff(want, string(got)); d != "" {
			t.Error(d)
		}
	}
	if _, err := p.Bind(json.RawMessage(`{"constraints":3}`), []string{"n"}); err == nil {
		t.Error("constraints that are none are not refused")
	}
}

// toldPort is a framework that is told where to launch, and does nothing about it.
type toldPort struct {
	port // nil: nothing else is asked of it

	told []relocation
	err  error // its answer
}

func (p *toldPort) Relocate(_ context.Context, r relocation) (string, error) {
	p.told = append(p.told, r)
	return "", p.err
}

func (p *toldPort) Undo(context.Context, string) error { return nil }

func (p *toldPort) Bind(body json.RawMessage, hosts []string) (json.RawMessage, error) {
	if p.err != nil {
		return nil, p.err
	}
	return append(body, hosts[0]...), nil
}

// listeningMesh is a cluster that hears what it is told.
type listeningMesh struct{ galleryMesh }

func (listeningMesh) Put(r qos.Record) (qos.Record, error) { return r, nil }

// placing hands f a job that needs more than one CPU, and a cluster in which host "big" alone has that; room makes all others have it too.
func placing(t *testing.T, f func(t *testing.T, a *Agent, j *job, room func())) {
	t.Helper()
	still(t, nil, func(t *testing.T, _ hand, a *Agent) {
		member := func(name string, need float64) gossip.Member {
			return gossip.Member{Name: "node-" + name, State: gossip.Alive, Meta: gossip.Meta{
				Peer: name + ":30001", Hostname: name, CPUs: 4, HasRoom: true, Sold: 1, Need: need,
			}}
		}
		tell := func(need float64) {
			members := []gossip.Member{member("big", 0.5), member("full", need), member("4", 0)} // node-4 is drained
			a.cluster = newCluster(listeningMesh{galleryMesh{members: members}}, nil)
			a.room.Store(&qos.Room{Node: a.node, CPUs: 4, Sold: 1, Need: need})
		}
		own := a.cluster
		defer func() { a.cluster = own }()
		tell(3.9)
		now := time.Now()
		j := newJob(row{Record: qos.Record{
			Spec: qos.Spec{
				ID: simID(0), Name: "/j", Framework: qos.Chronos, CPUs: 0.5, Iterations: 1, Submitted: now,
				QoS: qos.QoS{Duration: 2200, Deadline: qos.Deadline{After: 2400 * time.Second}},
			},
			Status: qos.Status{Phase: qos.PhasePending, Since: now, Started: now},
		}})
		a.jobs.add(j)
		f(t, a, j, func() { tell(0.5) })
	})
}

func TestAJobIsHandedInBoundToTheHostsThatHaveWhatItNeeds(t *testing.T) {
	t.Parallel()
	placing(t, func(t *testing.T, a *Agent, j *job, room func()) {
		first := func(p port) string {
			t.Helper()
			body, err := a.bindFirst(j, p, json.RawMessage("body "), time.Now())
			if err != nil {
				t.Error(err)
			}
			return string(body)
		}
		if got := first(struct{ port }{}); got != "body " || j.steward().Hosts != nil || j.row.Local.Move != nil {
			t.Errorf("a framework that takes no hosts: %q, %v", got, j.steward().Hosts)
		}
		if body, err := a.bindFirst(j, &toldPort{err: errors.New("no")}, nil, time.Now()); err == nil || j.steward().Hosts != nil || j.row.Local.Move != nil {
			t.Errorf("a body that can't be bound: %q, %v, %v", body, err, j.steward().Hosts)
		}
		if got := first(&toldPort{}); got != "body big" {
			t.Errorf("handed in as %q", got)
		}
		m := j.row.Local.Move
		if m == nil || m.State != moveSent || m.Node != "big" || !cmp.Equal(m.Hosts, []string{"big"}) || !cmp.Equal(j.steward().Hosts, []string{"big"}) {
			t.Errorf("what is known of it: %+v, %v", m, j.steward().Hosts)
		}
		room()
		if got := first(&toldPort{}); got != "body " {
			t.Errorf("where all have room, handed in as %q", got)
		}
	})
}

func TestChronosIsToldOnceWhereToLaunch(t *testing.T) {
	t.Parallel()
	placing(t, func(t *testing.T, a *Agent, j *job, room func()) {
		p, now := &toldPort{}, time.Now()
		next := func(after time.Duration, want ...relocation) {
			t.Helper()
			p.told = nil
			now = now.Add(after)
			if err := a.bindNext(t.Context(), j, p, now); !errors.Is(err, p.err) {
				t.Errorf("%v instead of %v", err, p.err)
			}
			if d := cmp.Diff(want, p.told); d != "" {
				t.Error(d)
			}
		}
		big := []string{"big"}
		p.err = errors.New("refused")
		next(0, relocation{Name: "/j", Hosts: big})
		if j.steward().Hosts != nil {
			t.Errorf("it is bound to %v by what was refused", j.steward().Hosts)
		}
		p.err = nil
		next(time.Second, relocation{Name: "/j", Hosts: big})
		next(time.Second)
		if !cmp.Equal(j.steward().Hosts, big) {
			t.Errorf("bound to %v", j.steward().Hosts)
		}
		p.err = marathonAway(true) // whether it has been heard is not known
		room()
		next(time.Second, relocation{Name: "/j", Before: big})
		next(time.Second, relocation{Name: "/j", Before: big, Perhaps: [][]string{nil}})
		p.err = nil
		next(time.Second, relocation{Name: "/j", Before: big, Perhaps: [][]string{nil}})
		next(time.Second)
		if j.steward().Hosts != nil || j.unsure != nil {
			t.Errorf("bound to %v, perhaps %v", j.steward().Hosts, j.unsure)
		}
	})
}

func TestAJobThatCameToNoTaskWhereItWasBoundMayRunAnywhere(t *testing.T) {
	t.Parallel()
	placing(t, func(t *testing.T, a *Agent, j *job, _ func()) {
		p, now := &toldPort{}, time.Now()
		wait := a.cfg.Control.MoveTimeout
		for _, after := range []time.Duration{0, wait, wait + time.Second, 2 * wait, (placeAgain + 2) * wait} {
			if err := a.bindNext(t.Context(), j, p, now.Add(after)); err != nil {
				t.Error(err)
			}
		}
		big := []string{"big"}
		want := []relocation{{Name: "/j", Hosts: big}, {Name: "/j", Before: big}, {Name: "/j", Hosts: big}}
		if d := cmp.Diff(want, p.told); d != "" {
			t.Error(d)
		}
	})
}

func TestOfAJobsConstraintsAllThatItWasToldAreReplaced(t *testing.T) {
	t.Parallel()
	own := []string{"rack", "EQUALS", "r1"}
	has := [][]string{own, {"hostname", "EQUALS", "a"}, {"hostname", "LIKE", "b|c"}, {"hostname", "EQUALS", "mine"}}
	for _, c := range []struct {
		r    relocation
		want [][]string
	}{
		{relocation{Hosts: []string{"d"}, Before: []string{"a"}, Perhaps: [][]string{nil, {"b", "c"}}}, [][]string{own, has[3], {"hostname", "EQUALS", "d"}}},
		{relocation{Before: []string{"b", "c"}}, [][]string{own, has[1], has[3]}},
		{relocation{}, has},
	} {
		if d := cmp.Diff(c.want, c.r.chronosConstraints(has)); d != "" {
			t.Errorf("%+v: %s", c.r, d)
		}
	}
	if got := (relocation{}).chronosConstraints(nil); got == nil || len(got) != 0 {
		t.Errorf("no constraints are %v, which Chronos does not take for an empty list", got)
	}
}
