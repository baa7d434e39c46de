package framework

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"qosctl/qos"
)

// The names that tie what a framework runs to our job.
const (
	LabelJob  = "qosctl.job"    // label of apps and containers: the job's UUID
	EnvJob    = "QOSCTL_JOB"    // environment of the stand-in: the job's UUID
	EnvSecret = "QOSCTL_SECRET" // its secret towards the agent
	EnvSocket = "QOSCTL_SOCKET" // path of the agent's socket for stand-ins
	EnvSpec   = "QOSCTL_SPEC"   // EncodeSpec, if it is not longer than MaxSpec

	// EnvNodeSocket is that path on a node whose agent's is another than the cluster's others'. No job has it: the node's Mesos agent gives it to
	// all of its tasks (--executor_environment_variables).
	EnvNodeSocket = "QOSCTL_NODE_SOCKET"
)

// StandIn says how a framework starts the stand-in of a job.
type StandIn struct {
	Command string // program, /usr/bin/qosctl; an absolute path, as the task's PATH is not known
	Secret  string
	Socket  string // path
}

// CommandLine is what the task's shell gets: exec, so that the stand-in is the task's own process and gets its SIGTERM.
func (s StandIn) CommandLine() string { return "exec " + s.Command + " run" }

// Env is the stand-in's environment, and a warning if the spec is too large to be in it.
func (s StandIn) Env(spec qos.Spec) (map[string]string, []string, error) {
	switch {
	case s.Command == "":
		return nil, nil, fmt.Errorf("prepare %s: the command of stand-ins is not set", spec.Name)
	case spec.ID == "" || s.Secret == "" || s.Socket == "":
		return nil, nil, fmt.Errorf("prepare %s: job id, secret and socket are needed", spec.Name)
	}
	env := map[string]string{EnvJob: spec.ID, EnvSecret: s.Secret, EnvSocket: s.Socket}
	packed, err := EncodeSpec(spec)
	if err != nil {
		return nil, nil, err
	}
	if len(packed) > MaxSpec {
		return env, []string{fmt.Sprintf(
			"the job is too large (%d bytes packed, at most %d) to travel in its task's environment: an agent that doesn't know it can't run it", len(packed), MaxSpec)}, nil
	}
	env[EnvSpec] = packed
	return env, nil, nil
}

// QoSLabels are the labels that show a job's quality of service to whoever looks at the framework.
func QoSLabels(spec qos.Spec) map[string]string {
	labels := map[string]string{
		LabelJob:               spec.ID,
		"qosctl.duration":      number(spec.QoS.Duration),
		"qosctl.deadline":      spec.QoS.Deadline.String(),
		"qosctl.desv_deadline": number(spec.QoS.Deviation),
	}
	if spec.QoS.Executions > 0 {
		labels["qosctl.executions"] = strconv.Itoa(spec.QoS.Executions)
	}
	if spec.QoS.Policy != "" {
		labels["qosctl.policy"] = spec.QoS.Policy
	}
	return labels
}

func number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// JobFile is the source of a spec as the framework is to get it: without the qos block and whatever the table of qos.Fields
// refuses, ignores or doesn't know, numbers and booleans as such even where the file has strings. Fields that are translated
// are left in, for the caller to act on.
func JobFile(spec qos.Spec) (map[string]any, error) {
	var root map[string]any
	decoder := json.NewDecoder(bytes.NewReader(spec.Source))
	decoder.UseNumber()
	if err := decoder.Decode(&root); err != nil {
		return nil, fmt.Errorf("read the job file of %s: %w", spec.Name, err)
	}
	c := cleaner{fields: map[string]qos.Field{}, inPlace: spec.QoS.InPlace()}
	for _, f := range qos.Fields(spec.Framework) {
		c.fields[f.Name] = f
	}
	out := c.object(root, "")
	delete(out, "qos")
	return out, nil
}

// cleaner goes over a job file along the table of fields. The file was checked by qos.Parse: what doesn't fit is left as it is.
type cleaner struct {
	fields  map[string]qos.Field
	inPlace bool
}

func (c *cleaner) object(in map[string]any, prefix string) map[string]any {
	out := map[string]any{}
	for key, value := range in {
		f, known := c.fields[prefix+key]
		verdict := f.Held
		if c.inPlace {
			verdict = f.InPlace
		}
		if !known || value == nil || verdict == qos.Refused || verdict == qos.Ignored {
			continue
		}
		out[key] = c.value(value, f)
	}
	return out
}

func (c *cleaner) value(v any, f qos.Field) any {
	switch string(f.Type) {
	case "object":
		if m, ok := v.(map[string]any); ok {
			return c.object(m, f.Name+".")
		}
	case "list of objects":
		list, ok := v.([]any)
		if !ok {
			return v
		}
		out := make([]any, 0, len(list))
		for _, item := range list {
			if m, ok := item.(map[string]any); ok {
				item = c.object(m, f.Name+".")
			}
			out = append(out, item)
		}
		return out
	case "number", "integer":
		if s, ok := v.(string); ok {
			if n, err := strconv.ParseFloat(strings.TrimSpace(s), 64); err == nil {
				return n
			}
		}
	case "boolean":
		if s, ok := v.(string); ok {
			if b, err := strconv.ParseBool(strings.ToLower(strings.TrimSpace(s))); err == nil {
				return b
			}
		}
	}
	return v
}

// Constraint is the placement constraint that keeps a job to nodes with an agent: a node without the attribute doesn't fit, in
// Marathon as in Chronos. attribute is its name.
func Constraint(attribute string) []string { return []string{attribute, "LIKE", ".+"} }

// AddConstraint adds a constraint to a job file's, unless it has it.
func AddConstraint(file map[string]any, attribute string) {
	if attribute == "" {
		return
	}
	list, _ := file["constraints"].([]any)
	add := Constraint(attribute)
	for _, item := range list {
		parts, ok := item.([]any)
		if ok && len(parts) == len(add) && parts[0] == add[0] && parts[1] == add[1] && parts[2] == add[2] {
			return
		}
	}
	file["constraints"] = append(append([]any(nil), list...), add)
}

// EncodeFile is the JSON of a job file: keys in order, nothing escaped that need not be.
func EncodeFile(file map[string]any) (json.RawMessage, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(file); err != nil {
		return nil, fmt.Errorf("encode job file: %w", err)
	}
	return bytes.TrimSpace(b.Bytes()), nil
}
