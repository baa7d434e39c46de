package chronos

import (
	"encoding/json"
	"fmt"

	"qosctl/framework"
	"qosctl/qos"
)

// Schedule is the schedule of a job that only starts when it is told to: endless, and beginning long after all of us. Chronos
// reckons in nanoseconds of an int64, so that years from 2262 on would overflow.
const Schedule = "R/2200-01-01T00:00:00Z/PT24H"

// PrepareOptions say what the job that Chronos gets is made with.
type PrepareOptions struct {
	Command    string // of stand-ins: /usr/bin/qosctl
	Secret     string // of the job
	Socket     string // path of the agent's socket for stand-ins
	Constraint string // agent attribute that a node must have; "": none
}

// Prepare turns a job into the one that Chronos gets, and says in words what of it can't be had. Chronos never starts it by
// itself, never retries (a retry of a finite schedule makes it endless), and runs it once at a time.
//
// Iterations by the agent (the default): one launch of the stand-in, `exec qosctl run`, without container. Iterations by
// Chronos: each launch is an iteration; command and container are the file's own, and the container gets a label by which
// the agent finds it.
func Prepare(spec qos.Spec, o PrepareOptions) (json.RawMessage, []string, error) {
	if spec.Framework != qos.Chronos {
		return nil, nil, fmt.Errorf("prepare %s: it is a job for %s, not for Chronos", spec.Name, spec.Framework)
	}
	file, err := framework.JobFile(spec)
	if err != nil {
		return nil, nil, err
	}
	file["name"] = spec.Name
	file["cpus"] = spec.CPUs
	file["mem"] = spec.MemoryMiB
	file["schedule"] = Schedule
	delete(file, "scheduleTimeZone")
	file["retries"] = 0
	file["concurrent"] = false
	framework.AddConstraint(file, o.Constraint)
	var warnings []string
	env := map[string]string{framework.EnvJob: spec.ID}
	if spec.QoS.InPlace() {
		label(file, spec)
	} else {
		standIn := framework.StandIn{Command: o.Command, Secret: o.Secret, Socket: o.Socket}
		if env, warnings, err = standIn.Env(spec); err != nil {
			return nil, nil, err
		}
		file["command"] = standIn.CommandLine()
		delete(file, "arguments")
		delete(file, "container")
	}
	addEnv(file, env)
	body, err := framework.EncodeFile(file)
	return body, warnings, err
}

// label adds the label that ties the container which Mesos makes to the job: Chronos itself sets none.
func label(file map[string]any, spec qos.Spec) {
	container, ok := file["container"].(map[string]any)
	if !ok {
		return
	}
	parameters, _ := container["parameters"].([]any)
	container["parameters"] = append(append([]any(nil), parameters...),
		map[string]any{"key": "label", "value": LabelKey + "=" + spec.ID})
}

// addEnv adds variables, in order of their names, behind those of the file.
func addEnv(file map[string]any, env map[string]string) {
	list, _ := file["environmentVariables"].([]any)
	list = append([]any(nil), list...)
	for _, name := range []string{framework.EnvJob, framework.EnvSecret, framework.EnvSocket, framework.EnvSpec} {
		if value, ok := env[name]; ok {
			list = append(list, map[string]any{"name": name, "value": value})
		}
	}
	file["environmentVariables"] = list
}
