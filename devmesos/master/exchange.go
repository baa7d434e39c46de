package master

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"qosctl/devmesos/node"
)

var errCut = errors.New("the node is cut off by a fault")

// Exchange takes a node's report and answers with its orders.
func (m *Master) Exchange(ctx context.Context, r node.Report) (node.Orders, error) {
	if err := r.Validate(); err != nil {
		return node.Orders{}, err
	}
	var acks []string
	var refused string
	isCut := false
	m.change(func() (list []update, freed bool) {
		if isCut = m.cut[r.Agent.Hostname]; isCut {
			return nil, false
		}
		list, acks, refused, freed = m.take(r, time.Now())
		return list, freed
	})
	if isCut {
		return node.Orders{}, errCut
	}
	wait := time.NewTimer(m.hold())
	defer wait.Stop()
	if refused != "" && len(r.Tasks) == 0 {
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
	}
	for {
		o, wake, err := m.orders(r, acks, refused)
		if err != nil || wake == nil {
			return o, err
		}
		select {
		case <-ctx.Done():
			return node.Orders{}, ctx.Err()
		case <-wait.C:
			acks = []string{}
		case <-wake:
		}
	}
}

// orders are an answer, or what to wait for: a channel, while there is nothing to say. Acks that are empty and not nil say that there has been enough waiting.
func (m *Master) orders(r node.Report, acks []string, refused string) (o node.Orders, wake chan struct{}, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o = node.Orders{Master: m.life, Acks: acks, Shutdown: refused, Hold: m.hold()}
	if m.cut[r.Agent.Hostname] {
		return node.Orders{}, nil, errCut
	}
	if m.closed {
		return node.Orders{}, nil, errors.New("the master shuts down")
	}
	a := m.agents[r.Agent.ID]
	if refused != "" || a == nil || a.life != r.Life || a.number != r.Number { // the last: another report has come since
		return o, nil, nil
	}
	o.Orders = slices.Clone(a.outbox)
	if len(o.Orders) == 0 && acks == nil {
		return o, a.wake, nil
	}
	return o, nil, nil
}

// take notes what a node reports: first what it did, then what it has. mu is held.
func (m *Master) take(r node.Report, now time.Time) (list []update, acks []string, refused string, freed bool) {
	if m.gone[r.Agent.ID] {
		return nil, nil, "Agent has been marked gone", false
	}
	if m.mode(r.Agent) == machineDown {
		return nil, nil, "Machine is down for maintenance", false
	}
	a := m.agents[r.Agent.ID]
	if a != nil && a.life == r.Life && r.Number <= a.number {
		return nil, nil, "", false // came late
	}
	if a == nil {
		list, freed = m.replaced(r.Agent, now)
		a = &agent{registered: now, wake: make(chan struct{})}
		m.agents[r.Agent.ID] = a
		m.dirty = m.dirty || r.Agent.Lasting
	}
	back := a.state != registered
	if back || a.life != r.Life {
		m.admit(a, r, now)
		freed = true
	}
	a.info, a.number, a.heard, a.state = r.Agent, r.Number, now, registered
	if r.Master == m.life {
		a.outbox = slices.DeleteFunc(a.outbox, func(o node.Order) bool { return o.Number <= r.Seen })
	}
	for _, u := range r.Updates {
		acks = append(acks, u.UUID)
		if slices.Contains(a.recent, u.UUID) {
			continue
		}
		const most = 1000
		if a.recent = append(a.recent, u.UUID); len(a.recent) > most {
			a.recent = slices.Delete(a.recent, 0, len(a.recent)-most)
		}
		list = append(list, m.updated(a, u)...)
		freed = freed || u.Status.State.Terminal()
	}
	more, lost := m.reconcile(a, r, back, now)
	m.drained(a)
	return append(list, more...), acks, "", freed || lost
}

// admit registers an agent, perhaps again. A new process of it has carried out nothing of what the former one was told. mu is held.
func (m *Master) admit(a *agent, r node.Report, now time.Time) {
	if a.state != "" {
		a.again = now
	}
	m.log.Info("agent registered", "agent", r.Agent.ID, "hostname", r.Agent.Hostname, "was", a.state)
	if a.life != r.Life {
		a.outbox, a.recent = nil, nil
	}
	a.life = r.Life
	if a.drain != nil && a.drain.State == draining {
		a.order(node.Order{Drain: &a.drain.Config})
	}
}

// replaced removes an agent that another one has taken the address of. mu is held.
func (m *Master) replaced(by node.AgentInfo, now time.Time) (list []update, freed bool) {
	for id, old := range m.agents {
		if old.info.Address == by.Address && old.info.Hostname == by.Hostname {
			list = append(list, m.remove(id, "A new agent registered at the same address", node.Gone, now)...)
			freed = true
		}
	}
	return list, freed
}

// remove forgets an agent; its tasks are over. mu is held.
func (m *Master) remove(id, message string, s node.State, now time.Time) (list []update) {
	for _, r := range m.on(id) {
		f := m.frameworks[r.Framework]
		m.end(r)
		if f != nil && !r.muted && (!r.lost || f.aware) { // who got TASK_LOST has heard of the end
			list = append(list, update{f, node.Status{TaskID: r.ID, State: f.lostState(s), Message: message, At: now}})
		}
	}
	m.log.Warn("agent is removed", "agent", id, "message", message)
	if a := m.agents[id]; a != nil {
		a.rouse()
	}
	delete(m.agents, id)
	m.dirty = true
	return list
}

// updated notes a status update. mu is held.
func (m *Master) updated(a *agent, u node.Update) []update {
	st, f, r := u.Status, m.frameworks[u.Framework], m.tasks[u.Status.TaskID]
	if r == nil || r.agent != a.info.ID {
		if slices.Contains(m.ended, st.TaskID) {
			return nil
		}
		return []update{{f, st}}
	}
	r.State, r.latest, r.lost = st.State, st, false
	m.dirty = m.dirty || a.info.Lasting
	if r.muted {
		r.ended = st.State.Terminal()
		return nil
	}
	if st.State.Terminal() {
		m.end(r)
	}
	return []update{{f, st}}
}

// reconcile compares what an agent has with what it should have. Of tasks that came back with it, or that nobody knew of, the frameworks
// hear; those that it does not have are lost. mu is held.
func (m *Master) reconcile(a *agent, rep node.Report, back bool, now time.Time) (list []update, lost bool) {
	has := map[string]bool{}
	for _, t := range rep.Tasks {
		has[t.ID] = true
		r := m.tasks[t.ID]
		fresh := r == nil && !slices.Contains(m.ended, t.ID)
		if fresh {
			r = &record{Held: t, agent: a.info.ID, latest: node.Status{TaskID: t.ID, State: t.State, At: now}}
			m.tasks[t.ID] = r
			m.dirty = true
		}
		if r == nil || r.agent != a.info.ID || r.muted || !back && !fresh && !r.lost {
			continue
		}
		r.State, r.lost = t.State, false
		list = append(list, update{m.frameworks[t.Framework], node.Status{TaskID: t.ID, State: t.State, Message: "Agent re-registered", At: now}})
	}
	for _, r := range m.on(a.info.ID) {
		coming := slices.ContainsFunc(a.outbox, func(o node.Order) bool { return o.Launch != nil && o.Launch.ID == r.ID })
		if has[r.ID] || coming || r.ended {
			continue
		}
		f := m.frameworks[r.Framework]
		m.end(r)
		lost = true
		if r.muted || r.lost && f != nil && !f.aware {
			continue
		}
		list = append(list, update{f, node.Status{TaskID: r.ID, State: node.Lost, Message: "Reconciliation: Task is unknown to the agent", At: now}})
	}
	return list, lost
}

// expire marks agents unreachable that have been silent for too long, and forgets the oldest of these.
func (m *Master) expire(now time.Time) {
	m.change(func() (list []update, freed bool) {
		var away []*agent
		for _, a := range m.agents {
			if a.state != unreachable && now.Sub(a.heard) >= m.o.PingTimeout {
				list = append(list, m.unreach(a, now)...)
			}
			if a.state == unreachable {
				away = append(away, a)
			}
		}
		const most = 100
		if len(away) > most {
			slices.SortFunc(away, func(x, y *agent) int { return x.heard.Compare(y.heard) })
			for _, a := range away[:len(away)-most] {
				list = append(list, m.remove(a.info.ID, "Agent was unreachable for too long", node.Gone, now)...)
			}
		}
		return list, false
	})
}

// unreach says that an agent can't be reached, nor can its tasks. Orders that it has not seen are forgotten. mu is held.
func (m *Master) unreach(a *agent, now time.Time) (list []update) {
	m.log.Warn("agent is unreachable", "agent", a.info.ID, "hostname", a.info.Hostname)
	a.state, a.outbox, m.dirty = unreachable, nil, true
	for _, r := range m.on(a.info.ID) {
		if r.lost {
			continue
		}
		r.lost = true
		if r.muted {
			continue
		}
		f := m.frameworks[r.Framework]
		list = append(list, update{f, node.Status{
			TaskID: r.ID, State: f.lostState(node.Unreachable), Message: fmt.Sprintf("Agent %s is unreachable", a.info.Hostname), At: now,
		}})
	}
	return list
}
