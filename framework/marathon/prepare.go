package marathon

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"strings"
	"time"

	"qosctl/framework"
	"qosctl/qos"
)

// singleInstance is Marathon's label that makes it refuse any other number of instances and any other upgrade strategy.
const singleInstance = "MARATHON_SINGLE_INSTANCE_APP"

// Bounds of the grace between SIGTERM and SIGKILL of a stand-in, in which its job is checkpointed.
const (
	minGrace        = 60 * time.Second
	maxGrace        = time.Hour
	checkpointSetup = 30 * time.Second
	checkpointRate  = 50 // MiB/s that even a slow disk writes
)

// 1.4 knows no disabled unreachableStrategy. Ten years is as good.
const tenYears = 10 * 365 * 24 * 3600

// PrepareOptions say what the app that Marathon gets is made with.
type PrepareOptions struct {
	Command    string // of stand-ins: /usr/bin/qosctl
	Secret     string // of the job
	Socket     string // path of the agent's socket for stand-ins
	Constraint string // agent attribute that a node must have; "": none
	Version    Version
}

// Prepare turns a job into the app that Marathon gets, and says in words what of it can't be had.
//
// Of a job that the agent holds (the default) Marathon gets the stand-in: `exec qosctl run` without container, one
// instance, the old task ended before the new one starts, a grace that a checkpoint fits into, never replaced while its node is
// out of reach, all labels at once because a changed one restarts the task. A job that is only resized in place is sent as
// it is, without the qos block, with labels.
func Prepare(spec qos.Spec, o PrepareOptions) (json.RawMessage, []string, error) {
	if spec.Framework != qos.Marathon {
		return nil, nil, fmt.Errorf("prepare %s: it is a job for %s, not for Marathon", spec.Name, spec.Framework)
	}
	file, err := framework.JobFile(spec)
	if err != nil {
		return nil, nil, err
	}
	file["id"] = spec.Name
	file["cpus"] = RoundCPUs(spec.CPUs)
	file["mem"] = spec.MemoryMiB
	labels := textMap(file["labels"])
	maps.Copy(labels, framework.QoSLabels(spec))
	file["labels"] = labels
	framework.AddConstraint(file, o.Constraint)
	var warnings []string
	if spec.QoS.InPlace() {
		if !o.Version.Networks() {
			oldShape(file)
		}
	} else if warnings, err = hold(file, spec, o); err != nil {
		return nil, nil, err
	}
	body, err := framework.EncodeFile(file)
	return body, warnings, err
}

// hold makes the app of a job whose container the agent holds.
func hold(file map[string]any, spec qos.Spec, o PrepareOptions) ([]string, error) {
	standIn := framework.StandIn{Command: o.Command, Secret: o.Secret, Socket: o.Socket}
	own, warnings, err := standIn.Env(spec)
	if err != nil {
		return nil, err
	}
	env := maps.Clone(spec.Process.Env)
	if env == nil {
		env = map[string]string{}
	}
	maps.Copy(env, own)
	file["env"] = env
	file["cmd"] = standIn.CommandLine()
	file["instances"] = 1
	file["upgradeStrategy"] = map[string]any{"minimumHealthCapacity": 0, "maximumOverCapacity": 0}
	file["labels"].(map[string]string)[singleInstance] = "true"
	file["taskKillGracePeriodSeconds"] = grace(file["taskKillGracePeriodSeconds"], spec.MemoryMiB)
	file["unreachableStrategy"] = any("disabled")
	if !o.Version.Networks() {
		file["unreachableStrategy"] = map[string]any{"inactiveAfterSeconds": tenYears - 1, "expungeAfterSeconds": tenYears}
	}
	for _, name := range []string{"args", "container", "networks", "ipAddress"} {
		delete(file, name)
	}
	return append(warnings, ports(file, spec)...), nil
}

// grace is in how many seconds a job of that memory is surely checkpointed; what the file has counts if it is more.
func grace(wanted any, memoryMiB float64) int {
	need := checkpointSetup + time.Duration(memoryMiB/checkpointRate*float64(time.Second))
	seconds := int(math.Ceil(min(max(need, minGrace), maxGrace).Seconds()))
	switch n := wanted.(type) {
	case json.Number:
		if f, err := n.Float64(); err == nil && f < math.MaxInt32 {
			return max(seconds, int(f))
		}
	case float64:
		return max(seconds, int(min(n, math.MaxInt32)))
	}
	return seconds
}

// ports asks for the container's ports on the stand-in's behalf, which has the host's network: the agent maps them.
func ports(file map[string]any, spec qos.Spec) []string {
	if spec.Container == nil || len(spec.Container.Ports) == 0 {
		return nil
	}
	delete(file, "ports")
	definitions := make([]any, 0, len(spec.Container.Ports))
	fixed := 0
	for _, p := range spec.Container.Ports {
		d := map[string]any{"port": p.HostPort, "protocol": "tcp"}
		if p.Protocol != "" {
			d["protocol"] = p.Protocol
		}
		if p.Name != "" {
			d["name"] = p.Name
		}
		if p.HostPort != 0 {
			fixed++
		}
		definitions = append(definitions, d)
	}
	file["portDefinitions"] = definitions
	// Without requirePorts a fixed port is only a name for one that Mesos picks. With it a port 0 would be required to be
	// the service port that Marathon makes up for it, which no node offers.
	switch fixed {
	case 0:
		delete(file, "requirePorts")
	case len(definitions):
		file["requirePorts"] = true
	default:
		delete(file, "requirePorts")
		return []string{"fixed host ports beside ports that Mesos picks can't be asked for: the fixed ones are not reserved on the node"}
	}
	return nil
}

// oldShape writes networks and port mappings where Marathon 1.4 looks for them; it would drop them without a word.
func oldShape(file map[string]any) {
	container, _ := file["container"].(map[string]any)
	docker, _ := container["docker"].(map[string]any)
	if docker != nil {
		if mappings, ok := container["portMappings"]; ok {
			docker["portMappings"] = mappings
			delete(container, "portMappings")
		}
	}
	networks, _ := file["networks"].([]any)
	delete(file, "networks")
	if len(networks) == 0 || docker == nil {
		return
	}
	network, _ := networks[0].(map[string]any)
	mode, _ := network["mode"].(string)
	switch strings.ToLower(mode) {
	case "host":
		docker["network"] = "HOST"
	case "container/bridge":
		docker["network"] = "BRIDGE"
	default:
		docker["network"] = "USER"
		file["ipAddress"] = map[string]any{"networkName": network["name"]}
	}
}

// textMap is a map of texts from JSON; others than texts are left out.
func textMap(v any) map[string]string {
	out := map[string]string{}
	in, _ := v.(map[string]any)
	for key, value := range in {
		if s, ok := value.(string); ok {
			out[key] = s
		}
	}
	return out
}
