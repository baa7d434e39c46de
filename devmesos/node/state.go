package node

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// version is the Mesos release whose answers are imitated.
const version = "1.11.0"

// The shapes of GET /state (src/slave/http.cpp).
type stateJSON struct {
	ID                  string          `json:"id"`
	PID                 string          `json:"pid"`
	Hostname            string          `json:"hostname"`
	Version             string          `json:"version"`
	StartTime           float64         `json:"start_time"`
	Resources           resourcesJSON   `json:"resources"`
	ReservedResources   map[string]any  `json:"reserved_resources"`
	UnreservedResources resourcesJSON   `json:"unreserved_resources"`
	Attributes          map[string]any  `json:"attributes"`
	Flags               map[string]any  `json:"flags"`
	Frameworks          []frameworkJSON `json:"frameworks"`
	CompletedFrameworks []frameworkJSON `json:"completed_frameworks"`
	DrainConfig         *DrainConfig    `json:"drain_config,omitempty"` // while it drains, that is, has tasks still
	DrainStart          int64           `json:"estimated_drain_start_time_seconds,omitempty"`
}

type resourcesJSON struct {
	CPUs  float64 `json:"cpus"`
	Mem   float64 `json:"mem"`
	Disk  float64 `json:"disk"`
	GPUs  float64 `json:"gpus"`
	Ports string  `json:"ports,omitempty"`
}

type frameworkJSON struct {
	ID                 string         `json:"id"`
	Name               string         `json:"name"`
	User               string         `json:"user"`
	FailoverTimeout    float64        `json:"failover_timeout"`
	Checkpoint         bool           `json:"checkpoint"`
	Hostname           string         `json:"hostname"`
	Role               string         `json:"role"`
	Executors          []executorJSON `json:"executors"`
	CompletedExecutors []executorJSON `json:"completed_executors"`
}

type executorJSON struct {
	ID             string        `json:"id"`
	Name           string        `json:"name"`
	Source         string        `json:"source"`
	Container      string        `json:"container"`
	Directory      string        `json:"directory"`
	Resources      resourcesJSON `json:"resources"`
	Role           string        `json:"role"`
	Tasks          []taskJSON    `json:"tasks"`
	QueuedTasks    []taskJSON    `json:"queued_tasks"`
	CompletedTasks []taskJSON    `json:"completed_tasks"`
}

type taskJSON struct {
	ID          string        `json:"id"`
	Name        string        `json:"name"`
	FrameworkID string        `json:"framework_id"`
	ExecutorID  string        `json:"executor_id"`
	SlaveID     string        `json:"slave_id"`
	State       State         `json:"state"`
	Resources   resourcesJSON `json:"resources"`
	Role        string        `json:"role"`
	Statuses    []statusJSON  `json:"statuses"`
	User        string        `json:"user,omitempty"`
	Labels      []Label       `json:"labels,omitempty"`
}

type statusJSON struct {
	State           State          `json:"state"`
	Timestamp       float64        `json:"timestamp"`
	ContainerStatus map[string]any `json:"container_status,omitempty"`
}

type containerJSON struct {
	FrameworkID  string         `json:"framework_id"`
	ExecutorID   string         `json:"executor_id"`
	ExecutorName string         `json:"executor_name"`
	Source       string         `json:"source"`
	ContainerID  string         `json:"container_id,omitempty"`
	Status       map[string]any `json:"status,omitempty"`
	Statistics   map[string]any `json:"statistics,omitempty"`
}

// Handler answers as the agent's HTTP API.
func (n *Node) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, prefix := range []string{"", "/slave(1)"} {
		mux.HandleFunc("GET "+prefix+"/state", func(w http.ResponseWriter, _ *http.Request) { reply(w, n.state()) })
		mux.HandleFunc("GET "+prefix+"/containers", func(w http.ResponseWriter, _ *http.Request) { reply(w, n.containers(true)) })
		mux.HandleFunc("GET "+prefix+"/monitor/statistics", func(w http.ResponseWriter, _ *http.Request) { reply(w, n.containers(false)) })
		mux.HandleFunc("GET "+prefix+"/health", func(http.ResponseWriter, *http.Request) {})
	}
	return mux
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a client that went away is no concern of ours
}

func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

func (n *Node) total() resourcesJSON {
	return resourcesJSON{CPUs: n.o.CPUs, Mem: n.o.MemMiB, Disk: n.o.DiskMiB, Ports: fmt.Sprintf("[%d-%d]", n.o.FirstPort, n.o.FirstPort+999)}
}

// state is the agent's state as of now.
func (n *Node) state() stateJSON {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := stateJSON{
		ID: n.id, PID: "slave(1)@" + n.o.Address, Hostname: n.o.Hostname, Version: version, StartTime: seconds(n.start),
		Resources: n.total(), UnreservedResources: n.total(), ReservedResources: map[string]any{}, Attributes: attributes(n.o.Attributes),
		Flags: map[string]any{
			"cgroups_hierarchy": n.o.CgroupRoot, "cgroups_root": strings.TrimPrefix(n.o.Parent, "/"), "cgroups_enable_cfs": "false",
			"work_dir": n.o.Dir, "hostname": n.o.Hostname,
		},
		Frameworks: []frameworkJSON{}, CompletedFrameworks: []frameworkJSON{}, DrainConfig: n.drain,
	}
	if n.drain != nil {
		s.DrainStart = n.drainStart.Unix()
	}
	for _, name := range slices.Sorted(maps.Keys(n.frameworks)) {
		f := n.frameworks[name]
		fj := frameworkJSON{
			ID: f.ID, Name: name, User: "root", FailoverTimeout: 604800, Checkpoint: true, Hostname: n.o.Hostname, Role: "*",
			Executors: []executorJSON{}, CompletedExecutors: []executorJSON{},
		}
		for _, id := range slices.Sorted(maps.Keys(n.tasks)) {
			if t := n.tasks[id]; t.Framework == name {
				fj.Executors = append(fj.Executors, n.executor(f, t, false))
			}
		}
		for _, t := range n.completed {
			if t.Framework == name {
				fj.CompletedExecutors = append(fj.CompletedExecutors, n.executor(f, t, true))
			}
		}
		if len(fj.Executors)+len(fj.CompletedExecutors) > 0 { // an agent knows a framework by its executors
			s.Frameworks = append(s.Frameworks, fj)
		}
	}
	return s
}

// attributes are scalars as numbers, all else as text.
func attributes(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		if f, err := strconv.ParseFloat(v, 64); err == nil {
			out[k] = f
			continue
		}
		out[k] = v
	}
	return out
}

func (t *task) resources() resourcesJSON {
	r := resourcesJSON{CPUs: t.CPUs, Mem: t.MemMiB, Disk: t.DiskMiB}
	if len(t.Ports) > 0 {
		parts := make([]string, len(t.Ports))
		for i, p := range t.Ports {
			parts[i] = fmt.Sprintf("%d-%d", p, p)
		}
		r.Ports = "[" + strings.Join(parts, ", ") + "]"
	}
	return r
}

func (n *Node) executor(f *framework, t *task, completed bool) executorJSON {
	e := executorJSON{
		ID: t.ID, Name: "Command Executor (Task: " + t.ID + ") (Command: sh -c '" + t.Command + "')", Source: t.ID, Container: t.container,
		Directory: t.sandbox, Resources: t.resources(), Role: "*", Tasks: []taskJSON{}, QueuedTasks: []taskJSON{}, CompletedTasks: []taskJSON{},
	}
	e.Resources.CPUs += 0.1 // the executor's own
	e.Resources.Mem += 32
	tj := taskJSON{
		ID: t.ID, Name: t.Name, FrameworkID: f.ID, ExecutorID: t.ID, SlaveID: n.id, State: t.last(), Resources: t.resources(), Role: "*",
		User: t.User, Labels: t.Labels, Statuses: []statusJSON{},
	}
	for _, s := range t.statuses {
		if s.State != Staging { // the agent has no update for it: it is the state that a task is born in
			tj.Statuses = append(tj.Statuses, statusJSON{State: s.State, Timestamp: seconds(s.At), ContainerStatus: n.containerStatus(t)})
		}
	}
	switch {
	case completed:
		e.CompletedTasks = append(e.CompletedTasks, tj)
	case t.last() == Staging:
		e.QueuedTasks = append(e.QueuedTasks, tj)
	default:
		e.Tasks = append(e.Tasks, tj)
	}
	return e
}

func (n *Node) containerStatus(t *task) map[string]any {
	s := map[string]any{"container_id": map[string]any{"value": t.container}}
	if t.pid > 0 {
		s["executor_pid"] = t.pid
	}
	return s
}

func (n *Node) containers(full bool) []containerJSON {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := []containerJSON{}
	for _, id := range slices.Sorted(maps.Keys(n.tasks)) {
		t := n.tasks[id]
		if t.pid == 0 || t.last().Terminal() {
			continue
		}
		f := n.frameworks[t.Framework]
		c := containerJSON{FrameworkID: f.ID, ExecutorID: id, ExecutorName: "Command Executor (Task: " + id + ")", Source: id, Statistics: n.statistics(t)}
		if full {
			c.ContainerID, c.Status = t.container, n.containerStatus(t)
		}
		list = append(list, c)
	}
	return list
}

// statistics reads a task's counters: the CPU time in user and system mode is the kernel's tick statistic, as Mesos gives it.
func (n *Node) statistics(t *task) map[string]any {
	s := map[string]any{"timestamp": seconds(time.Now()), "cpus_limit": t.CPUs + 0.1, "mem_limit_bytes": int64(t.MemMiB+32) << 20}
	const hz = 100 // USER_HZ
	path := n.groups.path(t.container)
	if path == "" { // without cgroups what its session has used is as near as one can get
		var user, system uint64
		for _, p := range processes(n.o.Proc) {
			if p.sid == t.pid {
				user, system = user+p.user, system+p.system
			}
		}
		s["cpus_user_time_secs"], s["cpus_system_time_secs"] = float64(user)/hz, float64(system)/hz
		return s
	}
	for key, value := range n.read("cpuacct", path, "cpuacct.stat") {
		s["cpus_"+key+"_time_secs"] = value / hz
	}
	cpu := n.read("cpu", path, "cpu.stat")
	for from, to := range map[string]string{"nr_periods": "cpus_nr_periods", "nr_throttled": "cpus_nr_throttled"} {
		s[to] = cpu[from]
	}
	s["cpus_throttled_time_secs"] = cpu["throttled_time"] / 1e9
	mem := n.read("memory", path, "memory.stat")
	s["mem_rss_bytes"], s["mem_cache_bytes"] = mem["total_rss"], mem["total_cache"]
	return s
}

// read parses a flat keyed file of a cgroup; what can't be read is not there.
func (n *Node) read(controller, path, file string) map[string]float64 {
	b, err := os.ReadFile(filepath.Join(n.o.CgroupRoot, controller, path, file))
	if err != nil {
		return nil
	}
	m := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			if f, err := strconv.ParseFloat(v, 64); err == nil {
				m[k] = f
			}
		}
	}
	return m
}
