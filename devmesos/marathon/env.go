package marathon

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"qosctl/devmesos/node"
)

// mesosName is an app's ID as a task name: its segments, the last first.
func mesosName(id string) string {
	segments := strings.Split(strings.TrimPrefix(id, "/"), "/")
	slices.Reverse(segments)
	return strings.Join(segments, ".")
}

// labels are the app's, as Mesos task labels, in order of their names.
func labels(a *App) []node.Label {
	var list []node.Label
	for _, k := range slices.Sorted(maps.Keys(a.Labels)) {
		list = append(list, node.Label{Key: k, Value: a.Labels[k]})
	}
	return list
}

var notInName = regexp.MustCompile(`[^A-Za-z0-9_]+`)

func envName(s string) string { return strings.ToUpper(notInName.ReplaceAllString(s, "_")) }

// maxEnvLabel is the length from which a label's value is left out of the environment.
const maxEnvLabel = 512

// javaDouble prints a number as Java does: 1 is 1.0.
func javaDouble(f float64) string {
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// environment is what Marathon gives a task; the app's own variables come last and win.
func environment(a *App, taskID, host string, ports []int) map[string]string {
	env := map[string]string{
		"MESOS_TASK_ID": taskID, "MARATHON_APP_ID": a.ID, "MARATHON_APP_VERSION": *a.Version, "HOST": host,
		"MARATHON_APP_RESOURCE_CPUS": javaDouble(*a.CPUs), "MARATHON_APP_RESOURCE_MEM": javaDouble(*a.Mem),
		"MARATHON_APP_RESOURCE_DISK": javaDouble(*a.Disk), "MARATHON_APP_RESOURCE_GPUS": strconv.Itoa(*a.GPUs),
		"MARATHON_APP_ENFORCE_GROUP_ROLE": "false", "MARATHON_APP_LABELS": "",
	}
	if a.image() != "" {
		env["MARATHON_APP_DOCKER_IMAGE"] = a.image()
	}
	var names []string
	for _, k := range slices.Sorted(maps.Keys(a.Labels)) {
		if name := envName(k); len(a.Labels[k]) < maxEnvLabel {
			names = append(names, name)
			env["MARATHON_APP_LABEL_"+name] = a.Labels[k]
		}
	}
	env["MARATHON_APP_LABELS"] = strings.Join(names, " ")
	portEnvironment(env, a, ports)
	for k, raw := range a.Env {
		if v, ok := envText(raw); ok {
			env[k] = v
		}
	}
	return env
}

// portEnvironment names the host ports: PORT, PORT<n>, PORTS, PORT_<service or container port>, PORT_<NAME>.
func portEnvironment(env map[string]string, a *App, ports []int) {
	var all []string
	for n, p := range ports {
		text := strconv.Itoa(p)
		all = append(all, text)
		env["PORT"+strconv.Itoa(n)] = text
		if n == 0 {
			env["PORT"] = text
		}
		port, name := 0, ""
		if a.Networks[0].Mode == "host" && n < len(a.PortDefinitions) {
			port, name = a.PortDefinitions[n].Port, a.PortDefinitions[n].Name
		} else if a.Container != nil && n < len(a.Container.PortMappings) {
			port, name = a.Container.PortMappings[n].ContainerPort, a.Container.PortMappings[n].Name
		}
		if port != 0 {
			env["PORT_"+strconv.Itoa(port)] = text
		}
		if name != "" {
			env["PORT_"+envName(name)] = text
		}
	}
	if len(all) > 0 {
		env["PORTS"] = strings.Join(all, ",")
	}
}
