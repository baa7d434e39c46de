package agent

import (
	"log/slog"
	"testing"

	"qosctl/agent/api"
	"qosctl/container"
)

func TestReleaseGivesLentCPUsBack(t *testing.T) {
	t.Parallel()
	n := testNode(t, func(c *Config) { c.Control.Policy = "none" })
	n.submit(idA, `{"id":"/lender","cmd":"sleep 1000","cpus":0.5,"mem":32,"qos":{"duration":100,"desv_deadline":0.1,"deadline":600}}`)
	n.claim(idA, "t1")
	v := n.await(idA, "running", func(j api.Job) bool { return j.Allocation > 0 })
	id := n.agent.show(n.agent.jobs.get(idA), true).Container
	n.end()
	inForce := func() float64 {
		t.Helper()
		_, e, err := openEngine(n.cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		info, err := e.Inspect(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return info.Limits.CPUs
	}
	_, e, err := openEngine(n.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Resize(t.Context(), id, container.Limits{CPUs: 0.2}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1, 0} { // a second time there is nothing to do
		if got, err := Release(t.Context(), n.cfg, slog.New(slog.DiscardHandler)); err != nil || got != want {
			t.Errorf("released %d, %v; want %d", got, err, want)
		}
	}
	if got := inForce(); !sameCPUs(got, v.Request) {
		t.Errorf("in force after release: %g CPUs, request %g", got, v.Request)
	}
}
