package agent

import (
	"strings"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/framework"
	"qosctl/qos"
)

// carriedOf is the spec that a job's task carries.
func carriedOf(t *testing.T, id, file string) []byte {
	t.Helper()
	spec, _, err := qos.Parse([]byte(file), qos.ParseOptions{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	spec.ID, spec.Source = id, []byte("null")
	return mustJSON(t, spec)
}

// An id that is used again names the same job, or none: it never makes one that is not written down, or a second one.
func TestAnIDThatIsUsedAgain(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2, nil)
	a, b := c.nodes[0], c.nodes[1]
	send := func(n *node, id, file string) (api.SubmitResponse, bool, error) {
		return n.agent.submit(t.Context(), api.SubmitRequest{ID: id, File: []byte(file)})
	}
	c.port.set(func() { c.port.fail = &framework.Error{Kind: framework.ErrInvalid, Status: 422} })
	if _, _, err := send(a, idA, sleeper); err == nil {
		t.Fatal("the framework's refusal is none")
	}
	c.port.set(func() { c.port.fail = nil })
	c.until("the other node knows that it was withdrawn", func() bool { return b.agent.cluster.mesh.Removed(idA) })
	for _, n := range c.nodes {
		if _, _, err := send(n, idA, sleeper); err == nil || !strings.Contains(err.Error(), "was removed, or its submission refused") {
			t.Errorf("node %s: a refused id is used again: %v", n.cfg.Node, err)
		}
	}
	if c.port.has("/long") {
		t.Error("a job that nothing was written of was submitted")
	}
	carried := carriedOf(t, idA, sleeper)
	c.port.set(func() { c.port.jobs["/long"] = idA }) // somebody has put it back by hand
	for _, n := range c.nodes {
		_, err := n.standin(idA).Claim(t.Context(), api.Claim{Task: "t1", Spec: carried})
		if err == nil || !strings.Contains(err.Error(), "was removed") || n.agent.jobs.get(idA) != nil {
			t.Errorf("node %s: a task brings a removed job back, and nothing of it is written: %v", n.cfg.Node, err)
		}
	}
	c.port.set(func() { delete(c.port.jobs, "/long") })
	if _, fresh, err := send(a, idB, sleeper); err != nil || !fresh {
		t.Fatalf("with a new id: %v, %v", fresh, err)
	}
	c.until("the other node has the job's row", func() bool { _, ok := b.shared(idB); return ok })
	r, fresh, err := send(b, idB, sleeper)
	if err != nil || fresh || r.Job.ID != idB || r.Job.Owner != "n0" || b.agent.jobs.get(idB) != nil {
		t.Errorf("repeated at another node: %+v, %v, %v", r.Job, fresh, err)
	}
}
