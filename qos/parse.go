package qos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// ParseOptions are what a job file is read against.
type ParseOptions struct {
	File     string    // name of the file for messages; may be empty
	Now      time.Time // what is past; zero: nothing is, as for files that were accepted before
	MinCPUs  float64   // configured bounds of the allocation, for jobs that give only one of the two; 0: none
	MaxCPUs  float64
	Policies []string // names that qos.policy may have; nil: PolicyNames
}

func (o ParseOptions) policies() []string {
	if o.Policies != nil {
		return o.Policies
	}
	return PolicyNames()
}

// ParseReader reads and parses a job file, and reads no more of it than MaxFileSize and one byte.
func ParseReader(r io.Reader, opts ParseOptions) (Spec, []Warning, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxFileSize+1))
	if err != nil {
		return Spec{}, nil, fmt.Errorf("read job file: %w", err)
	}
	return Parse(data, opts)
}

// Parse reads a job file of Marathon or Chronos with its qos block. ID and Submitted of the Spec are left to the caller. An
// error is a Problems with all that is wrong; warnings, what is not done as the file has it, come with or without an error.
func Parse(data []byte, opts ParseOptions) (Spec, []Warning, error) {
	f := &file{data: data, opts: opts}
	var spec Spec
	if root := f.readTree(); root != nil {
		spec = f.readSpec(root)
	}
	warnings, err := f.report()
	if err != nil {
		return Spec{}, warnings, err
	}
	var source bytes.Buffer
	if err := json.Compact(&source, data); err != nil {
		return Spec{}, warnings, fmt.Errorf("compact job file: %w", err)
	}
	spec.Source = source.Bytes()
	return spec, warnings, nil
}

// ParseQoS reads a qos block alone, as for a job that runs already. Paths of problems begin with $.qos.
func ParseQoS(block []byte, framework Framework, opts ParseOptions) (QoS, []Warning, error) {
	if len(block) > MaxFileSize {
		block = block[:MaxFileSize+1]
	}
	f := &file{data: slices.Concat([]byte(`{"qos":`), block, []byte("}")), opts: opts}
	var q QoS
	if root := f.readTree(); root != nil {
		if len(root.members) > 1 {
			f.refuseAt(-1, "$", "is more than a qos block", "give the block alone")
		}
		q = f.readQoS(root, framework)
	}
	for _, found := range [][]located{f.problems.list, f.warnings.list} {
		for i := range found {
			found[i].offset = -1 // the offsets are not those of the caller's text
		}
	}
	warnings, err := f.report()
	if err != nil {
		return QoS{}, warnings, err
	}
	return q, warnings, nil
}

// readSpec reads a job file whose tree is sound.
func (f *file) readSpec(root *node) Spec {
	framework := f.framework(root)
	spec := Spec{Framework: framework, QoS: f.readQoS(root, framework)}
	inPlace := spec.QoS.InPlace()
	switch framework {
	case Marathon:
		f.walk(root, Marathon, inPlace)
		(&marathonFile{f, root, inPlace}).read(&spec)
	case Chronos:
		f.walk(root, Chronos, inPlace)
		(&chronosFile{f, root, inPlace}).read(&spec)
	}
	if framework != "" {
		f.checkRequest(root.get("cpus"), spec.CPUs, spec.QoS)
	}
	return spec
}

// framework tells by its shape for which framework a job file is: Marathon's have an id, Chronos' a name and a schedule or command.
func (f *file) framework(root *node) Framework {
	has := func(key string) bool { return root.get(key) != nil }
	marathon := has("id")
	chronos := has("name") && (has("schedule") || has("command") || has("parents"))
	switch {
	case marathon && chronos:
		f.refuseAt(root.start, "$", "has both an id, as for Marathon, and a name with a command or schedule, as for Chronos", "remove one of the two")
	case marathon:
		return Marathon
	case chronos:
		return Chronos
	case has("app") || has("apps"):
		f.refuseAt(root.start, "$", "is an answer of Marathon, or a group, with the app inside", "take the object within app out into a file of its own")
	case has("name"):
		f.refuseAt(root.start, "$", "has a name but neither command nor schedule", `for Chronos add a command, and a schedule such as "R4//P"; for Marathon write id instead of name`)
	case has("schedule") || has("command"):
		f.refuseAt(root.start, "$", "has a command or schedule, as for Chronos, but no name", "add a name")
	case has("cmd") || has("args") || has("instances"):
		f.refuseAt(root.start, "$", "has a cmd, args or instances, as for Marathon, but no id", `add an id, such as "/my-job"`)
	default:
		f.refuseAt(root.start, "$", "is for neither Marathon nor Chronos", "a Marathon app has an id and a cmd, a Chronos job a name, a schedule and a command")
	}
	return ""
}
