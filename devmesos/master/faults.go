package master

import (
	"fmt"
	"time"

	"qosctl/devmesos/node"
)

// SetReachable cuts a task off from its framework, or lets it return: its processes run on, updates and kills get lost.
func (m *Master) SetReachable(id string, reachable bool) (err error) {
	m.change(func() ([]update, bool) {
		r := m.tasks[id]
		if r == nil || r.muted == !reachable {
			err = fmt.Errorf("set task %s reachable %v: %w, or it is so already", id, reachable, ErrNoTask)
			return nil, false
		}
		r.muted = !reachable
		f := m.frameworks[r.Framework]
		st := node.Status{TaskID: id, State: r.State, At: time.Now(), Message: "Agent re-registered"}
		if !reachable {
			st.State, st.Message = f.lostState(node.Unreachable), "Agent is unreachable"
		}
		if reachable && r.ended {
			st = r.latest
			m.end(r)
		}
		return []update{{f, st}}, false
	})
	return err
}

// Lose makes a task disappear at once, as if its agent had been lost for good: its processes are killed, the framework hears TASK_GONE or,
// if it knows no partitions, TASK_LOST.
func (m *Master) Lose(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.tasks[id]
	if r == nil || m.agents[r.agent] == nil || m.agents[r.agent].state != registered {
		return fmt.Errorf("lose %s: %w", id, ErrNoTask)
	}
	m.agents[r.agent].order(node.Order{Lose: id})
	return nil
}

// Cut throws away what the node of a host name reports, or no longer: to the master the node is silent, and to the node the master.
func (m *Master) Cut(hostname string, cut bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.agents {
		if a.info.Hostname == hostname {
			m.cut[hostname] = cut
			a.rouse()
			return nil
		}
	}
	return fmt.Errorf("cut node %s: no such node", hostname)
}
