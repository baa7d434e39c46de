package master

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"qosctl/devmesos/node"
)

// Offers are what the agents have to give, in an order of chance, as Mesos' allocator has it.
func (m *Master) Offers() []node.Offer {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []node.Offer
	for _, id := range slices.Sorted(maps.Keys(m.agents)) {
		if a := m.agents[id]; a.state == registered && !a.deactivated {
			list = append(list, m.offer(a))
		}
	}
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// offer is what an agent has free. mu is held.
func (m *Master) offer(a *agent) node.Offer {
	i := a.info
	o := node.Offer{
		Hostname: i.Hostname, AgentID: i.ID, CPUs: i.CPUs - m.held[i.Hostname] - m.held[""], MemMiB: i.MemMiB, DiskMiB: i.DiskMiB,
		Attributes: maps.Clone(i.Attributes), Lasting: i.Lasting, Planned: m.planned(a),
	}
	taken := map[int]bool{}
	for _, r := range m.tasks {
		if r.agent != i.ID || r.ended {
			continue
		}
		o.CPUs -= r.CPUs
		o.MemMiB -= r.MemMiB
		o.DiskMiB -= r.DiskMiB
		for _, p := range r.Ports {
			taken[p] = true
		}
	}
	for p := i.FirstPort; p < i.FirstPort+1000 && len(o.Ports) < 100; p++ {
		if !taken[p] {
			o.Ports = append(o.Ports, p)
		}
	}
	return o
}

// Hold keeps CPUs out of the offers of a host, as a framework does that sits on an offer: no state tells of them. Without a host it is
// from each one's. 0 gives all back.
func (m *Master) Hold(hostname string, cpus float64) {
	m.change(func() ([]update, bool) {
		m.held[hostname] = cpus
		return nil, true
	})
}

// epsilon is what sums of scalar resources may be off: Mesos counts in thousandths.
const epsilon = 0.0005

// Launch books a task's resources on an agent, and has it launched. It returns at once; node.ErrNoResources says that the offer is no more.
func (m *Master) Launch(agentID string, t node.Task) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, f := m.agents[agentID], m.frameworks[t.Framework]
	switch {
	case m.closed:
		return node.ErrStopped
	case f == nil:
		return fmt.Errorf("launch %s: framework %q is not registered", t.ID, t.Framework)
	case m.tasks[t.ID] != nil:
		return fmt.Errorf("launch %s: task exists", t.ID)
	case a == nil || a.state != registered || a.deactivated:
		return fmt.Errorf("launch %s: agent %s has no offers: %w", t.ID, agentID, node.ErrNoResources)
	}
	o := m.offer(a)
	if t.CPUs > o.CPUs+epsilon || t.MemMiB > o.MemMiB+epsilon || t.DiskMiB > o.DiskMiB+epsilon {
		return fmt.Errorf("launch %s: %w", t.ID, node.ErrNoResources)
	}
	for _, r := range m.on(agentID) {
		for _, p := range t.Ports {
			if !r.ended && slices.Contains(r.Ports, p) {
				return fmt.Errorf("launch %s: port %d: %w", t.ID, p, node.ErrNoResources)
			}
		}
	}
	t.FrameworkID = f.id
	a.order(node.Order{Launch: &t})
	held := node.Held{
		ID: t.ID, Framework: t.Framework, State: node.Staging, CPUs: t.CPUs, MemMiB: t.MemMiB, DiskMiB: t.DiskMiB, Ports: slices.Clone(t.Ports),
	}
	m.tasks[t.ID] = &record{Held: held, agent: agentID, latest: node.Status{TaskID: t.ID, State: node.Staging, At: time.Now()}}
	m.dirty = m.dirty || a.info.Lasting
	return nil
}

// Kill asks for the end of a task. One for a task whose agent is out of reach gets lost; one for a task that nobody knows is answered
// TASK_LOST, as reconciliation would.
func (m *Master) Kill(framework, id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, f := m.tasks[id], m.frameworks[framework]
	switch {
	case f == nil || m.closed || slices.Contains(m.ended, id): // the last update of a task that has just ended is on its way
	case r == nil:
		m.wg.Go(func() {
			st := node.Status{TaskID: id, State: node.Lost, Message: "Reconciliation: Task is unknown", At: time.Now()}
			m.change(func() ([]update, bool) { return []update{{f, st}}, false })
		})
	case r.muted || r.Framework != framework:
	default:
		if a := m.agents[r.agent]; a != nil && a.state == registered {
			a.order(node.Order{Kill: &node.KillOrder{Framework: framework, Task: id}})
		}
	}
}
