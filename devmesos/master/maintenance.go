package master

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"qosctl/devmesos/node"
)

// MachineID names a machine; an agent's has both, and only one that is equal in both is that agent's.
type MachineID struct {
	Hostname string `json:"hostname,omitempty"`
	IP       string `json:"ip,omitempty"`
}

func (m MachineID) key() MachineID { return MachineID{strings.ToLower(m.Hostname), m.IP} }

// Schedule is what is planned (maintenance.proto).
type Schedule struct {
	Windows []Window `json:"windows,omitempty"`
}

// Window is a time in which machines are to be maintained.
type Window struct {
	Machines       []MachineID    `json:"machine_ids"`
	Unavailability unavailability `json:"unavailability"`
}

type unavailability struct {
	Start    nanoseconds  `json:"start"`
	Duration *nanoseconds `json:"duration,omitempty"`
}

type nanoseconds struct {
	Nanoseconds int64 `json:"nanoseconds"`
}

// The modes of a machine that is not up.
const (
	machineDraining = "draining"
	machineDown     = "down"
)

// machine is the machine of an agent.
func machine(a node.AgentInfo) MachineID {
	host, _, err := net.SplitHostPort(a.Address)
	if err != nil {
		host = a.Address
	}
	return MachineID{Hostname: a.Hostname, IP: host}.key()
}

// mode is that of an agent's machine; "": up. mu is held.
func (m *Master) mode(a node.AgentInfo) string { return m.machines[machine(a)] }

// planned is when an agent's machine is to be maintained; nil: never. mu is held.
func (m *Master) planned(a *agent) *node.Unavailability {
	id := machine(a.info)
	for _, w := range m.schedule.Windows {
		if !slices.ContainsFunc(w.Machines, func(x MachineID) bool { return x.key() == id }) {
			continue
		}
		u := &node.Unavailability{Start: time.Unix(0, w.Unavailability.Start.Nanoseconds)}
		if d := w.Unavailability.Duration; d != nil {
			u.Duration = time.Duration(d.Nanoseconds)
		}
		return u
	}
	return nil
}

// validate checks a schedule against the machines that are down.
func (s Schedule) validate(machines map[MachineID]string) error {
	seen := map[MachineID]bool{}
	for _, w := range s.Windows {
		if err := validMachines(w.Machines); err != nil {
			return err
		}
		if d := w.Unavailability.Duration; d != nil && d.Nanoseconds < 0 {
			return errors.New("Unavailability 'duration' is negative") //nolint:revive,staticcheck // Mesos' own words
		}
		for _, id := range w.Machines {
			if seen[id.key()] {
				return fmt.Errorf("Machine '%s' appears more than once in the schedule", id.text()) //nolint:revive,staticcheck // Mesos' own words
			}
			seen[id.key()] = true
		}
	}
	for id, mode := range machines {
		if mode == machineDown && !seen[id] {
			return fmt.Errorf("Machine '%s' is deactivated and cannot be removed from the schedule", id.text()) //nolint:revive,staticcheck // Mesos' own words
		}
	}
	return nil
}

func (m MachineID) text() string { return fmt.Sprintf(`{"hostname":%q,"ip":%q}`, m.Hostname, m.IP) }

func validMachines(ids []MachineID) error {
	if len(ids) == 0 {
		return errors.New("List of machines is empty") //nolint:revive,staticcheck // Mesos' own words
	}
	for _, id := range ids {
		if id.Hostname == "" && id.IP == "" {
			return errors.New("Both 'hostname' and 'ip' for a machine are empty") //nolint:revive,staticcheck // Mesos' own words
		}
		if id.IP != "" && net.ParseIP(id.IP) == nil {
			return fmt.Errorf("Failed to parse machine IP '%s'", id.IP) //nolint:revive,staticcheck // Mesos' own words
		}
	}
	return nil
}

// setSchedule replaces the schedule: machines that are in it and up begin to drain, those that are not in it are up.
func (m *Master) setSchedule(s Schedule) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := s.validate(m.machines); err != nil {
		return err
	}
	modes := map[MachineID]string{}
	for _, w := range s.Windows {
		for _, id := range w.Machines {
			modes[id.key()] = machineDraining
			if m.machines[id.key()] == machineDown {
				modes[id.key()] = machineDown
			}
		}
	}
	m.schedule, m.machines = s, modes
	return m.save()
}

// machinesDown ends the agents of machines that drain.
func (m *Master) machinesDown(ids []MachineID) error {
	if err := validMachines(ids); err != nil {
		return err
	}
	var err error
	m.change(func() (list []update, freed bool) {
		for _, id := range ids {
			mode, planned := m.machines[id.key()]
			switch {
			case !planned:
				err = fmt.Errorf("Machine '%s' is not part of a maintenance schedule", id.text()) //nolint:revive,staticcheck // Mesos' own words
				return nil, false
			case mode != machineDraining:
				err = fmt.Errorf("Machine '%s' is not in DRAINING mode and cannot be brought down", id.text()) //nolint:revive,staticcheck // Mesos' own words
				return nil, false
			}
		}
		for _, id := range ids {
			m.machines[id.key()] = machineDown
			for agentID, a := range m.agents {
				if machine(a.info) == id.key() {
					list = append(list, m.remove(agentID, "Operator initiated 'Machine DOWN'", node.Gone, time.Now())...)
				}
			}
		}
		err = m.save()
		return list, true
	})
	return err
}

// machinesUp takes machines that are down out of the schedule.
func (m *Master) machinesUp(ids []MachineID) error {
	if err := validMachines(ids); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		switch mode, planned := m.machines[id.key()]; {
		case !planned:
			return fmt.Errorf("Machine '%s' is not part of a maintenance schedule", id.text()) //nolint:revive,staticcheck // Mesos' own words
		case mode != machineDown:
			return fmt.Errorf("Machine '%s' is not in DOWN mode and cannot be brought up", id.text()) //nolint:revive,staticcheck // Mesos' own words
		}
	}
	for _, id := range ids {
		delete(m.machines, id.key())
		var left []Window
		for _, w := range m.schedule.Windows {
			w.Machines = slices.DeleteFunc(slices.Clone(w.Machines), func(x MachineID) bool { return x.key() == id.key() })
			if len(w.Machines) > 0 {
				left = append(left, w)
			}
		}
		m.schedule.Windows = left
	}
	return m.save()
}

// The states of a drain.
const (
	draining = "DRAINING"
	drained  = "DRAINED"
)

// drainInfo is Mesos' message of that name.
type drainInfo struct {
	State   string           `json:"state"`
	Config  node.DrainConfig `json:"config"`
	started time.Time
}

var (
	errUnknownAgent  = errors.New("Unknown agent")                        //nolint:revive,staticcheck // Mesos' own words
	errNotInactive   = errors.New("Agent is not deactivated")             //nolint:revive,staticcheck // Mesos' own words
	errStillDraining = errors.New("Agent is still in the DRAINING state") //nolint:revive,staticcheck // Mesos' own words
)

// drainAgent ends an agent's tasks, and makes no offers of it until it is reactivated. An agent that is out of reach is told when it is back.
func (m *Master) drainAgent(id string, c node.DrainConfig) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.agents[id]
	if a == nil {
		return errUnknownAgent
	}
	if a.state == registered && m.planned(a) != nil {
		return fmt.Errorf("Agent %s is part of a maintenance schedule under Machine %s", id, machine(a.info).text()) //nolint:revive,staticcheck // Mesos' own words
	}
	a.drain, a.deactivated = &drainInfo{State: draining, Config: c, started: time.Now()}, true
	if a.state == registered {
		a.order(node.Order{Drain: &c})
	}
	m.drained(a)
	return m.save()
}

// drained notes that a draining agent has nothing left. One that was to be marked gone is removed for good. mu is held.
func (m *Master) drained(a *agent) {
	if a.drain == nil || a.drain.State != draining || a.state != registered || len(m.on(a.info.ID)) > 0 {
		return
	}
	a.drain.State, m.dirty = drained, true
	m.log.Info("agent is drained", "agent", a.info.ID, "hostname", a.info.Hostname)
	if a.drain.Config.MarkGone {
		m.gone[a.info.ID] = true
		delete(m.agents, a.info.ID)
		a.rouse()
	}
}

func (m *Master) deactivateAgent(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.agents[id]
	if a == nil {
		return errUnknownAgent
	}
	a.deactivated = true
	return m.save()
}

func (m *Master) reactivateAgent(id string) (err error) {
	m.change(func() ([]update, bool) {
		a := m.agents[id]
		switch {
		case a == nil || !a.deactivated:
			err = errNotInactive
		case a.drain != nil && a.drain.State == draining:
			err = errStillDraining
		default:
			a.deactivated, a.drain = false, nil
			err = m.save()
			return nil, true
		}
		return nil, false
	})
	return err
}
