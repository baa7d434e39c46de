package master

import (
	"fmt"
	"path/filepath"
	"time"

	"qosctl/devmesos/node"
	"qosctl/devmesos/snapshot"
)

// registryFile is what outlives the master's process: what operators have said, and the agents that live on with their tasks.
type registryFile struct {
	ID       string          `json:"id"`
	Agents   []savedAgent    `json:"agents,omitempty"`
	Tasks    []savedTask     `json:"tasks,omitempty"`
	Schedule Schedule        `json:"schedule"`
	Machines []savedMachine  `json:"machines,omitempty"`
	Gone     map[string]bool `json:"gone,omitempty"`
}

type savedAgent struct {
	Info        node.AgentInfo `json:"info"`
	Registered  time.Time      `json:"registered"`
	Unreachable bool           `json:"unreachable,omitempty"`
	Deactivated bool           `json:"deactivated,omitempty"`
	Drain       *drainInfo     `json:"drain,omitempty"`
	Recent      []string       `json:"recent,omitempty"`
}

type savedTask struct {
	node.Held
	Agent string `json:"agent"`
	Lost  bool   `json:"lost,omitempty"`
}

type savedMachine struct {
	ID   MachineID `json:"id"`
	Mode string    `json:"mode"`
}

func (m *Master) path() string { return filepath.Join(m.o.Dir, "master.json") }

// load reads the registry.
func (m *Master) load(now time.Time) error {
	if m.o.Dir == "" {
		return nil
	}
	var f registryFile
	aside, err := snapshot.Load(m.path(), &f)
	if err != nil {
		return fmt.Errorf("master: %w", err)
	}
	if aside != "" {
		m.log.Error("registry was corrupt: starting without it", "kept", aside)
		return nil
	}
	if f.ID != "" {
		m.id = f.ID
	}
	m.schedule = f.Schedule
	for _, x := range f.Machines {
		m.machines[x.ID.key()] = x.Mode
	}
	for id := range f.Gone {
		m.gone[id] = true
	}
	for _, x := range f.Agents {
		a := &agent{
			info: x.Info, state: recovered, heard: now, registered: x.Registered, deactivated: x.Deactivated, drain: x.Drain, recent: x.Recent,
			wake: make(chan struct{}),
		}
		if x.Unreachable {
			a.state = unreachable
		}
		m.agents[x.Info.ID] = a
	}
	for _, x := range f.Tasks {
		if m.agents[x.Agent] != nil {
			m.tasks[x.ID] = &record{Held: x.Held, agent: x.Agent, lost: x.Lost, latest: node.Status{TaskID: x.ID, State: x.State, At: now}}
		}
	}
	return nil
}

// save writes the registry. mu is held.
func (m *Master) save() error {
	m.dirty = false
	if m.o.Dir == "" {
		return nil
	}
	f := registryFile{ID: m.id, Schedule: m.schedule, Gone: m.gone}
	for _, a := range m.agents {
		if !a.info.Lasting {
			continue
		}
		f.Agents = append(f.Agents, savedAgent{
			Info: a.info, Registered: a.registered, Unreachable: a.state == unreachable, Deactivated: a.deactivated, Drain: a.drain, Recent: a.recent,
		})
		for _, r := range m.on(a.info.ID) {
			f.Tasks = append(f.Tasks, savedTask{Held: r.Held, Agent: r.agent, Lost: r.lost})
		}
	}
	for id, mode := range m.machines {
		f.Machines = append(f.Machines, savedMachine{id, mode})
	}
	if err := snapshot.Save(m.path(), f); err != nil {
		m.dirty = true
		return fmt.Errorf("master: %w", err)
	}
	return nil
}
