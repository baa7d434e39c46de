package mesos

import (
	"encoding/json"
	"strings"
	"time"
)

// State is what a Mesos agent's /state tells.
type State struct {
	Agent Agent
	Tasks []Task // of all frameworks, in the agent's order; ended ones have Completed
}

// Agent is the agent itself.
type Agent struct {
	ID         string
	Hostname   string
	Version    string
	CPUs       float64 // that it offers in all
	MemMiB     float64
	Attributes map[string]string
	Started    time.Time
}

// Task is a task on the agent.
type Task struct {
	ID            string
	Name          string
	FrameworkID   string
	FrameworkName string // marathon, chronos, …
	ExecutorID    string // of a command or docker task: its own id
	ContainerID   string // of its executor: docker calls it mesos-<ContainerID>, Mesos' cgroup is mesos/<ContainerID>
	State         string // TASK_…
	Role          string
	CPUs          float64
	MemMiB        float64
	Labels        map[string]string
	Statuses      []Status // oldest first
	Completed     bool     // the agent has it among the ended ones
}

// Status is one status update of a task.
type Status struct {
	State string
	At    time.Time
}

// Terminal says whether the task's state is one that it never leaves.
func (t Task) Terminal() bool {
	switch t.State {
	case "TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST", "TASK_DROPPED", "TASK_GONE", "TASK_GONE_BY_OPERATOR":
		return true
	}
	return false
}

// Container is a container of the agent.
type Container struct {
	ID          string         `json:"container_id"`
	FrameworkID string         `json:"framework_id"`
	ExecutorID  string         `json:"executor_id"`
	Source      string         `json:"source"`
	Statistics  map[string]any `json:"statistics"`
}

type stateJSON struct {
	ID         string          `json:"id"`
	Hostname   string          `json:"hostname"`
	Version    string          `json:"version"`
	StartTime  float64         `json:"start_time"`
	Resources  resourcesJSON   `json:"resources"`
	Attributes map[string]any  `json:"attributes"`
	Frameworks []frameworkJSON `json:"frameworks"`
	Completed  []frameworkJSON `json:"completed_frameworks"`
}

type resourcesJSON struct {
	CPUs float64 `json:"cpus"`
	Mem  float64 `json:"mem"`
}

type frameworkJSON struct {
	ID        string         `json:"id"`
	Name      string         `json:"name"`
	Executors []executorJSON `json:"executors"`
	Completed []executorJSON `json:"completed_executors"`
}

type executorJSON struct {
	ID        string     `json:"id"`
	Container string     `json:"container"`
	Tasks     []taskJSON `json:"tasks"`
	Queued    []taskJSON `json:"queued_tasks"`
	Completed []taskJSON `json:"completed_tasks"`
}

type taskJSON struct {
	ID        string        `json:"id"`
	Name      string        `json:"name"`
	State     string        `json:"state"`
	Role      string        `json:"role"`
	Resources resourcesJSON `json:"resources"`
	Labels    []struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	} `json:"labels"`
	Statuses []struct {
		State     string  `json:"state"`
		Timestamp float64 `json:"timestamp"`
	} `json:"statuses"`
}

// UnmarshalJSON reads /state.
func (s *State) UnmarshalJSON(data []byte) error {
	var in stateJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*s = State{Agent: Agent{
		ID: in.ID, Hostname: in.Hostname, Version: in.Version, CPUs: in.Resources.CPUs, MemMiB: in.Resources.Mem,
		Started: seconds(in.StartTime),
	}}
	for name, value := range in.Attributes {
		if s.Agent.Attributes == nil {
			s.Agent.Attributes = map[string]string{}
		}
		s.Agent.Attributes[name] = attribute(value)
	}
	for _, f := range in.Frameworks {
		s.add(f, false)
	}
	for _, f := range in.Completed {
		s.add(f, true)
	}
	return nil
}

func (s *State) add(f frameworkJSON, completed bool) {
	for _, e := range f.Executors {
		s.addTasks(f, e, e.Queued, completed)
		s.addTasks(f, e, e.Tasks, completed)
		s.addTasks(f, e, e.Completed, true)
	}
	for _, e := range f.Completed {
		s.addTasks(f, e, e.Queued, true)
		s.addTasks(f, e, e.Tasks, true)
		s.addTasks(f, e, e.Completed, true)
	}
}

func (s *State) addTasks(f frameworkJSON, e executorJSON, tasks []taskJSON, completed bool) {
	for _, in := range tasks {
		t := Task{
			ID: in.ID, Name: in.Name, FrameworkID: f.ID, FrameworkName: f.Name, ExecutorID: e.ID, ContainerID: e.Container,
			State: in.State, Role: in.Role, CPUs: in.Resources.CPUs, MemMiB: in.Resources.Mem, Completed: completed,
		}
		for _, l := range in.Labels {
			if t.Labels == nil {
				t.Labels = map[string]string{}
			}
			t.Labels[l.Key] = l.Value
		}
		for _, st := range in.Statuses {
			t.Statuses = append(t.Statuses, Status{State: st.State, At: seconds(st.Timestamp)})
		}
		s.Tasks = append(s.Tasks, t)
	}
}

// seconds is a time from seconds of the epoch; 0 or nonsense is the zero time.
func seconds(s float64) time.Time {
	if !(s > 0 && s < 1e11) {
		return time.Time{}
	}
	return time.UnixMicro(int64(s * 1e6))
}

// attribute is an attribute's value as text: Mesos gives scalars as numbers.
func attribute(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return strings.Trim(string(b), `"`)
}
