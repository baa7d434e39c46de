package marathon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Info is what GET /v2/info tells of a Marathon.
type Info struct {
	Name        string  `json:"name"`
	Version     string  `json:"version"`
	FrameworkID string  `json:"frameworkId"`
	Leader      string  `json:"leader"` // host:port; "": none elected
	Elected     bool    `json:"elected"`
	V           Version `json:"-"` // Version, understood
}

// Version is a Marathon's version as far as it decides which shapes it takes.
type Version struct{ Major, Minor int }

// ParseVersion reads "1.11.24", "1.5.0-SNAPSHOT" or "1.4". What can't be read is the zero Version.
func ParseVersion(s string) Version {
	parts := strings.SplitN(strings.TrimPrefix(s, "v"), ".", 3)
	if len(parts) < 2 {
		return Version{}
	}
	minor, _, _ := strings.Cut(parts[1], "-")
	a, errA := strconv.Atoi(parts[0])
	b, errB := strconv.Atoi(minor)
	if errA != nil || errB != nil || a < 0 || b < 0 {
		return Version{}
	}
	return Version{a, b}
}

// Networks says whether this Marathon has the shapes of 1.5: networks, container.portMappings, a disabled
// unreachableStrategy. A version that is not known counts as new.
func (v Version) Networks() bool {
	return v == Version{} || v.Major > 1 || v.Major == 1 && v.Minor >= 5
}

// String is the version as major.minor.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// App is an app as Marathon shows it, in one form for 1.4 and later. Raw has the rest.
type App struct {
	ID          string
	Cmd         string
	Args        []string
	User        string
	CPUs        float64
	MemMiB      float64
	Instances   int
	Env         map[string]string // secrets, which are objects, are left out
	Labels      map[string]string
	Constraints [][]string
	Image       string
	Network     string // host, bridge, none, the name of a user network; "" when no container says
	Version     string // timestamp of this version of the app
	Staged      int    // tasks
	Running     int
	Deployments []string // ids of the deployments that hold the app's lock
	Tasks       []Task   // only from App
	LastFailure *TaskFailure
	Raw         json.RawMessage
}

// Task is a task of an app.
type Task struct {
	ID      string    `json:"id"`
	App     string    `json:"appId"`
	Host    string    `json:"host"`
	Agent   string    `json:"slaveId"`
	State   string    `json:"state"` // TASK_…; "" from old versions
	Staged  time.Time `json:"stagedAt"`
	Started time.Time `json:"startedAt"` // zero: not yet
	Version string    `json:"version"`   // of the app that it was launched from
	Ports   []int     `json:"ports"`
}

// TaskFailure is the last failure of an app's tasks.
type TaskFailure struct {
	App       string    `json:"appId"`
	Task      string    `json:"taskId"`
	Host      string    `json:"host"`
	State     string    `json:"state"`
	Message   string    `json:"message"`
	Timestamp time.Time `json:"timestamp"`
	Version   string    `json:"version"`
}

// Change is Marathon's answer to a change: the new version and the deployment that brings it about.
type Change struct {
	Version    string `json:"version"`
	Deployment string `json:"deploymentId"` // "": the change was found done when its answer was lost
}

// Deployment is a deployment that runs.
type Deployment struct {
	ID      string   `json:"id"`
	Version string   `json:"version"`
	Apps    []string `json:"affectedApps"`
	Step    int      `json:"currentStep"`
	Steps   int      `json:"totalSteps"`
	Actions []Action `json:"currentActions"`
}

// Action is one action of a deployment's step.
type Action struct {
	Action string `json:"action"` // StartApplication, ScaleApplication, RestartApplication, StopApplication
	App    string `json:"app"`
}

// appJSON is an app in the shapes of Marathon 1.4 and later.
type appJSON struct {
	ID          string                     `json:"id"`
	Cmd         string                     `json:"cmd"`
	Args        []string                   `json:"args"`
	User        string                     `json:"user"`
	CPUs        float64                    `json:"cpus"`
	Mem         float64                    `json:"mem"`
	Instances   int                        `json:"instances"`
	Env         map[string]json.RawMessage `json:"env"`
	Labels      map[string]string          `json:"labels"`
	Constraints [][]string                 `json:"constraints"`
	Version     string                     `json:"version"`
	Staged      int                        `json:"tasksStaged"`
	Running     int                        `json:"tasksRunning"`
	Deployments []struct {
		ID string `json:"id"`
	} `json:"deployments"`
	Tasks       []Task       `json:"tasks"`
	LastFailure *TaskFailure `json:"lastTaskFailure"`
	Networks    []struct {
		Mode string `json:"mode"`
		Name string `json:"name"`
	} `json:"networks"`
	Container *struct {
		Docker *struct {
			Image   string `json:"image"`
			Network string `json:"network"`
		} `json:"docker"`
	} `json:"container"`
}

// UnmarshalJSON reads an app of any Marathon from 1.4 on, in both container shapes.
func (a *App) UnmarshalJSON(data []byte) error {
	var in appJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*a = App{
		ID: in.ID, Cmd: in.Cmd, Args: in.Args, User: in.User, CPUs: in.CPUs, MemMiB: in.Mem, Instances: in.Instances,
		Labels: in.Labels, Constraints: in.Constraints, Version: in.Version, Staged: in.Staged, Running: in.Running,
		Tasks: in.Tasks, LastFailure: in.LastFailure, Raw: bytes.Clone(data),
	}
	for name, raw := range in.Env {
		var value string
		if json.Unmarshal(raw, &value) != nil {
			continue
		}
		if a.Env == nil {
			a.Env = map[string]string{}
		}
		a.Env[name] = value
	}
	for _, d := range in.Deployments {
		a.Deployments = append(a.Deployments, d.ID)
	}
	a.Image, a.Network = in.container()
	return nil
}

// container is the image and the network of an app, from whichever shape has them.
func (in *appJSON) container() (image, network string) {
	if in.Container != nil && in.Container.Docker != nil {
		image = in.Container.Docker.Image
		network = map[string]string{"HOST": "host", "BRIDGE": "bridge", "NONE": "none"}[in.Container.Docker.Network]
	}
	if len(in.Networks) == 0 {
		return image, network
	}
	switch n := in.Networks[0]; n.Mode {
	case "host":
		return image, "host"
	case "container/bridge":
		return image, "bridge"
	default:
		return image, n.Name
	}
}
