package chronos

import (
	"testing"
	"time"

	"qosctl/devmesos/node"
)

func TestTheOfferThatMeetsTheConstraintsIsTaken(t *testing.T) {
	t.Parallel()
	for constraint, want := range map[string]string{
		`["hostname","EQUALS","h2"]`: "S1", `["hostname","UNLIKE","h1"]`: "S1", `["rack","LIKE","[b]"]`: "S1", `["qosctl","EQUALS","yes"]`: "S0",
		`["hostname","EQUALS","h3"]`: "",
	} {
		b := newBench(t)
		b.f.more = []node.Offer{{Hostname: "h2", AgentID: "S1", CPUs: 4, MemMiB: 4000, DiskMiB: 4000, Attributes: map[string]string{"rack": "b"}}}
		j, err := readJob([]byte(`{"name":"j","command":"x","schedule":"R1//PT1H","cpus":1,"constraints":[`+constraint+`]}`), false)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Post(j, b.now); err != nil {
			t.Fatal(err)
		}
		b.pass(5 * time.Second)
		got := ""
		for _, agent := range b.f.at {
			got = agent
		}
		if got != want || want != "" && len(b.f.all) != 1 {
			t.Errorf("%s: launched on %q, %d times", constraint, got, len(b.f.all))
		}
	}
}

// TestALastingRunGoesOnAfterARestart takes a run of a node that lives on back, and counts one of our own node as lost.
func TestALastingRunGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := &fake{live: map[string]node.Task{}, more: []node.Offer{{Hostname: "h2", AgentID: "S1", CPUs: 4, MemMiB: 4000, DiskMiB: 4000, Lasting: true}}}
	o := Options{Cluster: f, Dir: dir, Prefix: "/v1/scheduler"}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for name, host := range map[string]string{"own": "h1", "far": "h2"} {
		j, err := readJob([]byte(`{"name":"`+name+`","command":"x","schedule":"R9//PT1H","cpus":1,"retries":0,"constraints":[["hostname","EQUALS","`+host+`"]]}`), false)
		if err == nil {
			err = s.core.Post(j, now)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s.core.Tick(now.Add(time.Second))
	s.core.Tick(now.Add(2 * time.Second))
	if len(f.all) != 2 {
		t.Fatalf("launched %d", len(f.all))
	}
	s.save()
	next, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if own, far := next.core.store["own"], next.core.store["far"]; own.ErrorCount != 1 || far.ErrorCount != 0 || next.core.runningOf("far") != 1 || next.core.runningOf("own") != 0 {
		t.Errorf("own %+v, far %+v, running %v", own, far, next.core.running)
	}
	for id := range next.core.running {
		next.core.Status(now, node.Status{TaskID: id, State: node.Finished})
	}
	if next.core.store["far"].SuccessCount != 1 {
		t.Error("the end of the run is not counted")
	}
}
