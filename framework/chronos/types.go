package chronos

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"qosctl/framework"
)

// JobEnv is the environment variable that ties a Chronos job to ours, as Chronos has no labels.
const JobEnv = framework.EnvJob

// LabelKey is the label (docker run --label) that ties a container that Mesos makes to our job.
const LabelKey = framework.LabelJob

// Job is a job as Chronos shows it. Raw has the rest, and is what a change is based on.
type Job struct {
	Name         string
	Command      string
	Schedule     string // ISO 8601 repetition; "" for a dependent job
	Parents      []string
	Owner        string
	CPUs         float64
	MemMiB       float64
	Retries      int
	Disabled     bool
	Concurrent   bool
	Image        string
	Constraints  [][]string // [attribute, operator, value]; nil: it was not said
	SuccessCount int64
	ErrorCount   int64
	ErrorsInARow int64
	LastSuccess  time.Time // zero: never
	LastError    time.Time
	Env          map[string]string
	JobID        string // our job's UUID, from its environment or its container's label; "": not ours
	Raw          json.RawMessage
}

// UnmarshalJSON reads a job of any Chronos from 2.4 on.
func (j *Job) UnmarshalJSON(data []byte) error {
	var in struct {
		Name     string   `json:"name"`
		Command  string   `json:"command"`
		Schedule string   `json:"schedule"`
		Parents  []string `json:"parents"`
		Owner    string   `json:"owner"`
		CPUs     float64  `json:"cpus"`
		Mem      float64  `json:"mem"`
		Retries  int      `json:"retries"`
		Disabled bool     `json:"disabled"`

		Constraints  [][]string `json:"constraints"`
		Concurrent   bool       `json:"concurrent"`
		SuccessCount int64      `json:"successCount"`
		ErrorCount   int64      `json:"errorCount"`
		ErrorsInARow int64      `json:"errorsSinceLastSuccess"`
		LastSuccess  string     `json:"lastSuccess"`
		LastError    string     `json:"lastError"`
		Environment  []struct {
			Name  string `json:"name"`
			Value string `json:"value"`
		} `json:"environmentVariables"`
		Container *struct {
			Image      string `json:"image"`
			Parameters []struct {
				Key   string `json:"key"`
				Value string `json:"value"`
			} `json:"parameters"`
		} `json:"container"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*j = Job{
		Name: in.Name, Command: in.Command, Schedule: in.Schedule, Parents: in.Parents, Owner: in.Owner, CPUs: in.CPUs,
		Constraints: in.Constraints, MemMiB: in.Mem, Retries: in.Retries, Disabled: in.Disabled, Concurrent: in.Concurrent,
		SuccessCount: in.SuccessCount, ErrorCount: in.ErrorCount, ErrorsInARow: in.ErrorsInARow,
		LastSuccess: parseTime(in.LastSuccess), LastError: parseTime(in.LastError),
		Raw: append(json.RawMessage(nil), data...),
	}
	for _, e := range in.Environment {
		if j.Env == nil {
			j.Env = map[string]string{}
		}
		j.Env[e.Name] = e.Value
	}
	j.JobID = j.Env[JobEnv]
	if in.Container != nil {
		j.Image = in.Container.Image
		for _, p := range in.Container.Parameters {
			if id, ok := strings.CutPrefix(p.Value, LabelKey+"="); ok && p.Key == "label" && j.JobID == "" {
				j.JobID = id
			}
		}
	}
	return nil
}

// parseTime reads Chronos' timestamps; what isn't one is the zero time.
func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t
}

// Activity is what Chronos does with a job just now.
type Activity struct {
	Running int    // tasks
	Queued  bool   // waits for an offer
	Last    string // success, failure, fresh
}

// Idle says that nothing runs and nothing waits to.
func (a Activity) Idle() bool { return a.Running == 0 && !a.Queued }

// parseActivity reads a job's state: "idle", "queued", "2 running".
func parseActivity(status, state string) Activity {
	a := Activity{Last: strings.TrimSpace(status)}
	state = strings.ToLower(strings.TrimSpace(state))
	switch {
	case state == "queued":
		a.Queued = true
	case state == "running":
		a.Running = 1
	case strings.HasSuffix(state, " running"):
		if n, err := strconv.Atoi(strings.TrimSuffix(state, " running")); err == nil && n > 0 {
			a.Running = n
		}
	}
	return a
}

// activityFromCSV finds a job in /graph/csv: lines "node,<name>,<fresh|success|failure>,<state>".
func activityFromCSV(data []byte, name string) (Activity, bool) {
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimSpace(line), ",")
		if len(fields) == 4 && fields[0] == "node" && fields[1] == name {
			return parseActivity(fields[2], fields[3]), true
		}
	}
	return Activity{}, false
}
