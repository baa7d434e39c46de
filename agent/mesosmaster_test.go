package agent

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"qosctl/agent/api"
	"qosctl/framework/mesos"
)

// fakeMaster is a Mesos master of some agents. The real client is tested in its own room, against devmesos.
type fakeMaster struct {
	mu     sync.Mutex
	agents map[string]*mesos.Registered // by host
	refuse error
}

func (m *fakeMaster) Agents(context.Context) ([]mesos.Registered, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []mesos.Registered
	for _, r := range m.agents {
		list = append(list, *r)
	}
	return list, nil
}

func (m *fakeMaster) set(id string, off bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.agents {
		if r.ID == id && m.refuse == nil {
			r.Deactivated = off
		}
	}
	return m.refuse
}

func (m *fakeMaster) DeactivateAgent(_ context.Context, id string) error { return m.set(id, true) }
func (m *fakeMaster) ReactivateAgent(_ context.Context, id string) error { return m.set(id, false) }

func (m *fakeMaster) off(host string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.agents[host].Deactivated
}

func TestADrainTakesTheNodeOutOfMesosOffersWherePermitted(t *testing.T) {
	t.Parallel()
	m := &fakeMaster{agents: map[string]*mesos.Registered{}}
	for i := range 2 {
		host := fmt.Sprintf("n%d", i)
		m.agents[host] = &mesos.Registered{ID: "S" + host, Hostname: host}
	}
	c := startCluster(t, 2, func(_ int, n *node) { n.master = m })
	a := c.nodes[0]
	drain := func(on bool) string {
		t.Helper()
		r, err := a.client().Drain(t.Context(), api.Drain{Node: "n1", On: on})
		if err != nil {
			t.Fatal(err)
		}
		return r.How
	}
	if how := drain(true); !m.off("n1") || m.off("n0") || !strings.Contains(how, "DEACTIVATE_AGENT") || !strings.Contains(how, "constraints") {
		t.Errorf("drained: %s", how)
	}
	if how := drain(false); m.off("n1") || !strings.Contains(how, "REACTIVATE_AGENT") {
		t.Errorf("undrained: %s", how)
	}
	m.mu.Lock()
	m.refuse = mesos.ErrNotPermitted
	m.mu.Unlock()
	if how := drain(true); m.off("n1") || !strings.Contains(how, "does not permit") || !strings.Contains(how, "constraints") {
		t.Errorf("not permitted: %s", how)
	}
	drain(false)
}

func TestANodeThatIsDrainedInMesosIsEmptiedByItself(t *testing.T) {
	t.Parallel()
	m := &fakeMaster{agents: map[string]*mesos.Registered{"n1": {ID: "S1", Hostname: "n1"}}}
	c := startCluster(t, 2, func(_ int, n *node) { n.master = m })
	if err := m.set("S1", true); err != nil {
		t.Fatal(err)
	}
	draining := func() bool { return c.nodes[0].agent.holds().Draining["n1"] == "its Mesos agent is being drained" }
	c.until("all know that it is being drained", draining)
	if c.nodes[0].agent.holds().Draining["n0"] != "" {
		t.Error("another node is drained too")
	}
	// undrained here while Mesos still has it deactivated: that is not undone
	m.mu.Lock()
	m.refuse = mesos.ErrNotPermitted
	m.mu.Unlock()
	if _, err := c.nodes[0].client().Drain(t.Context(), api.Drain{Node: "n1"}); err != nil {
		t.Fatal(err)
	}
	c.until("it is not any more", func() bool { return !draining() })
	if is := c.nodes[1].agent.followMesos(t.Context(), true); !is || draining() {
		t.Error("an undrain is undone by the next look")
	}
}
