package chronos

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tree is a JSON object read as Jackson's tree: members are asked for a type and give what they can.
type tree map[string]any

// decodeTree reads one JSON object.
func decodeTree(body []byte) (tree, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var t tree
	if err := dec.Decode(&t); err != nil {
		return nil, err
	}
	if t == nil {
		return nil, errors.New("not an object")
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("unexpected text after the JSON value")
	}
	return t, nil
}

func (t tree) has(name string) bool { _, ok := t[name]; return ok }

// text is Jackson's asText: null is "null", numbers are their text, objects and arrays are empty.
func (t tree) text(name, def string) string {
	v, ok := t[name]
	if !ok {
		return def
	}
	return asText(v)
}

func asText(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case json.Number:
		return v.String()
	}
	return ""
}

// double is asDouble: text that is no number, null and structures are 0.
func (t tree) double(name string) float64 {
	switch v := t[name].(type) {
	case bool:
		if v {
			return 1
		}
	case json.Number, string:
		f, err := strconv.ParseFloat(strings.TrimSpace(asText(v)), 64)
		if err == nil && f == f && f < 1e300 && f > -1e300 {
			return f
		}
	}
	return 0
}

// long is asLong, with a default only for an absent member.
func (t tree) long(name string, def int64) int64 {
	if !t.has(name) {
		return def
	}
	return int64(max(-1e18, min(1e18, t.double(name))))
}

// boolean is asBoolean: "true" and numbers but 0 are true.
func (t tree) boolean(name string, def bool) bool {
	switch v := t[name].(type) {
	case bool:
		return v
	case string:
		return strings.TrimSpace(v) == "true"
	case json.Number:
		return t.double(name) != 0
	}
	if t.has(name) {
		return false
	}
	return def
}

func (t tree) list(name string) []any {
	l, _ := t[name].([]any)
	return l
}

// objects are the objects in a list; what is no object counts as an empty one.
func (t tree) objects(name string) []tree {
	var out []tree
	for _, v := range t.list(name) {
		o, _ := v.(map[string]any)
		out = append(out, tree(o))
	}
	return out
}

func (t tree) texts(name string) []string {
	out := []string{}
	for _, v := range t.list(name) {
		out = append(out, asText(v))
	}
	return out
}

// errNoName stands for the NullPointerException of a body without a name.
var errNoName = errors.New("java.lang.NullPointerException")

// errNetwork stands for the NoSuchElementException of Scala's Enumeration.
type errNetwork string

func (e errNetwork) Error() string {
	return fmt.Sprintf("java.util.NoSuchElementException: No value found for '%s'", string(e))
}

// readJob is Chronos' JobDeserializer: unknown members vanish, text becomes numbers, null is no absence.
func readJob(body []byte, old bool) (*Job, error) {
	t, err := decodeTree(body)
	if err != nil {
		return nil, err
	}
	if !t.has("name") {
		return nil, errNoName
	}
	j := &Job{
		Name: t.text("name", ""), Command: t.text("command", ""), Shell: t.boolean("shell", true), Executor: t.text("executor", ""),
		ExecutorFlags: t.text("executorFlags", ""), TaskInfoData: t.text("taskInfoData", ""), Retries: int(t.long("retries", 2)),
		Owner: t.text("owner", ""), OwnerName: t.text("ownerName", ""), Description: t.text("description", ""),
		CPUs: orDefault(t.double("cpus"), 0.1), Mem: orDefault(t.double("mem"), 128), Disk: orDefault(t.double("disk"), 256),
		Disabled: t.boolean("disabled", false), SoftError: t.boolean("softError", false), Concurrent: t.boolean("concurrent", false),
		DataProcessingJobType: t.boolean("dataProcessingJobType", false), HighPriority: t.boolean("highPriority", false),
		ErrorsSinceLastSuccess: t.long("errorsSinceLastSuccess", 0), SuccessCount: t.long("successCount", 0), ErrorCount: t.long("errorCount", 0),
		LastSuccess: t.text("lastSuccess", ""), LastError: t.text("lastError", ""), RunAsUser: t.text("runAsUser", "root"),
		MaxCompletionTime: t.long("maxCompletionTime", 0), URIs: t.texts("uris"), Arguments: t.texts("arguments"),
		Fetch: []Fetch{}, EnvironmentVariables: []Variable{}, Constraints: [][]string{},
	}
	for _, f := range t.objects("fetch") {
		j.Fetch = append(j.Fetch, Fetch{
			URI: f.text("uri", ""), Executable: f.boolean("executable", false), Cache: f.boolean("cache", false),
			Extract: f.boolean("extract", true), OutputFile: f.text("output_file", ""),
		})
	}
	for _, v := range t.objects("environmentVariables") {
		j.EnvironmentVariables = append(j.EnvironmentVariables, Variable{Name: v.text("name", ""), Value: v.text("value", "")})
	}
	j.readConstraints(t)
	if old {
		j.Old = &OldMembers{Async: t.boolean("async", false), Epsilon: t.text("epsilon", "PT60S")}
	}
	if parents := t.texts("parents"); t.has("parents") {
		j.Parents = parents
	} else {
		j.Schedule = t.text("schedule", "R1/"+time.Now().UTC().Format(stamp)+"/PT24H")
		j.ScheduleTimeZone = new(string)
		*j.ScheduleTimeZone = t.text("scheduleTimeZone", "")
	}
	return j, j.readContainer(t)
}

func orDefault(v, def float64) float64 {
	if v == 0 {
		return def
	}
	return v
}

// readConstraints keeps those with an operator that Chronos knows; others vanish without a word.
func (j *Job) readConstraints(t tree) {
	for _, c := range t.list("constraints") {
		parts, _ := c.([]any)
		if len(parts) != 3 {
			continue
		}
		op := strings.ToUpper(asText(parts[1]))
		if slices.Contains([]string{"EQUALS", "LIKE", "UNLIKE"}, op) {
			j.Constraints = append(j.Constraints, []string{asText(parts[0]), op, asText(parts[2])})
		}
	}
}

// readContainer takes a container with an image; one without is ignored, and the job runs on the host.
func (j *Job) readContainer(t tree) error {
	o, _ := t["container"].(map[string]any)
	c := tree(o)
	if !c.has("image") {
		return nil
	}
	network := c.text("network", "HOST")
	if !slices.Contains([]string{"HOST", "BRIDGE", "USER"}, network) {
		return errNetwork(network)
	}
	j.Container = &Container{
		Type: strings.ToUpper(c.text("type", "DOCKER")), Image: c.text("image", ""), Network: network, NetworkName: c.text("networkName", ""),
		ForcePullImage: c.boolean("forcePullImage", false), Volumes: []Volume{}, Parameters: []Parameter{}, NetworkInfos: []any{},
	}
	for _, v := range c.objects("volumes") {
		j.Container.Volumes = append(j.Container.Volumes, Volume{
			HostPath: v.text("hostPath", ""), ContainerPath: v.text("containerPath", ""), Mode: strings.ToUpper(v.text("mode", "")),
		})
	}
	for _, p := range c.objects("parameters") {
		j.Container.Parameters = append(j.Container.Parameters, Parameter{Key: p.text("key", ""), Value: p.text("value", "")})
	}
	return nil
}
