package marathon

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"qosctl/devmesos/node"
)

const frameworkName = "marathon"

// launchAll launches an app's scheduled instances that the back-off, the constraints and the offer allow. An instance that fits
// nowhere waits for ever: there is no admission check.
func (c *Core) launchAll(s *appState, now time.Time) {
	for _, i := range s.instances {
		if i.TaskID != "" || i.doomed {
			continue
		}
		if now.Before(s.delay.until) {
			return
		}
		c.launch(s, i, now)
	}
}

// launch takes the first offer that an instance fits into.
func (c *Core) launch(s *appState, i *instance, now time.Time) {
	for _, offer := range c.o.Cluster.Offers() {
		if offer.Planned.During(now) { // Marathon declines what is being maintained
			continue
		}
		if ports, ok := match(s.spec, offer, s); ok && c.launchOn(s, i, offer, ports, now) {
			return
		}
	}
}

// launchOn launches an instance with the newest definition; false if the offer was taken by somebody else meanwhile.
func (c *Core) launchOn(s *appState, i *instance, offer node.Offer, ports []int, now time.Time) bool {
	a := s.spec
	i.spec, i.config = a, configVersion(a)
	i.Incarnation++
	id := c.taskID(i)
	task := node.Task{
		ID: id, Name: mesosName(a.ID), Framework: frameworkName, Command: orElse(a.Cmd, ""), Args: a.Args, User: orElse(a.User, ""),
		Env: environment(a, id, offer.Hostname, ports), CPUs: *a.CPUs, MemMiB: *a.Mem, DiskMiB: *a.Disk, Ports: ports,
		Labels: labels(a), Image: a.image(), Docker: docker(a, ports), Fetch: fetch(a),
	}
	if a.TaskKillGracePeriodSeconds != nil {
		task.Grace = new(time.Duration(*a.TaskKillGracePeriodSeconds) * time.Second)
	}
	if err := c.o.Cluster.Launch(offer.AgentID, task); err != nil {
		i.Incarnation-- // the next offer comes when something ends
		return false
	}
	i.TaskID, i.State, i.Staged, i.Started = id, node.Staging, now, time.Time{}
	i.Ports, i.Host, i.Agent, i.Attributes, i.Lasting = ports, offer.Hostname, offer.AgentID, offer.Attributes, offer.Lasting
	c.changedTask = c.changedTask || i.Lasting
	s.delay.rebase(now)
	c.statusEvent(s, i, node.Status{TaskID: id, State: node.Staging, At: now})
	c.changed(s, i, now)
	return true
}

const epsilon = 0.0005

// match chooses the host ports of an instance, if the offer has room for it and meets its constraints.
func match(a *App, o node.Offer, s *appState) (ports []int, ok bool) {
	if *a.CPUs > o.CPUs+epsilon || *a.Mem > o.MemMiB+epsilon || *a.Disk > o.DiskMiB+epsilon || *a.GPUs > 0 {
		return nil, false
	}
	var others []place
	for _, i := range s.instances {
		if i.active() {
			others = append(others, place{i.Host, i.Attributes})
		}
	}
	if !meets(a, o, others) {
		return nil, false
	}
	free := map[int]bool{}
	for _, p := range o.Ports {
		free[p] = true
	}
	next := 0
	for _, want := range wantedPorts(a) {
		if want != 0 {
			if !free[want] {
				return nil, false
			}
			delete(free, want)
			ports = append(ports, want)
			continue
		}
		for next < len(o.Ports) && !free[o.Ports[next]] {
			next++
		}
		if next == len(o.Ports) {
			return nil, false
		}
		delete(free, o.Ports[next])
		ports = append(ports, o.Ports[next])
	}
	return ports, true
}

// wantedPorts are the host ports an app needs; 0 is any. Port definitions name service ports unless requirePorts says otherwise.
func wantedPorts(a *App) []int {
	var want []int
	if a.Networks[0].Mode == "host" {
		for _, d := range a.PortDefinitions {
			if *a.RequirePorts {
				want = append(want, d.Port)
			} else {
				want = append(want, 0)
			}
		}
		return want
	}
	if a.Container != nil {
		for _, m := range a.Container.PortMappings {
			if m.HostPort != nil {
				want = append(want, *m.HostPort)
			}
		}
	}
	return want
}

// fetch are the files that an app wants in its sandbox.
func fetch(a *App) (list []node.Fetch) {
	for _, raw := range a.Fetch {
		var f struct {
			URI        string `json:"uri"`
			Executable bool   `json:"executable"`
			OutputFile string `json:"outputFile"`
			DestPath   string `json:"destPath"` // of 1.5 and later
		}
		if err := json.Unmarshal(raw, &f); err == nil {
			list = append(list, node.Fetch{URI: f.URI, Executable: f.Executable, OutputFile: cmp.Or(f.DestPath, f.OutputFile)})
		}
	}
	return list
}

// docker is the Docker side of an app's container; nil: it has none, or Mesos' own containerizer runs it.
func docker(a *App, ports []int) *node.Container {
	if a.image() == "" || a.Container.Type != "DOCKER" {
		return nil
	}
	d := a.Container.Docker
	c := &node.Container{
		Privileged: d.Privileged != nil && *d.Privileged, ForcePull: d.ForcePullImage != nil && *d.ForcePullImage,
		Network: map[string]string{"container/bridge": "bridge", "container": a.Networks[0].Name}[a.Networks[0].Mode],
	}
	for _, p := range d.Parameters {
		c.Parameters = append(c.Parameters, node.Parameter(p))
	}
	for _, raw := range a.Container.Volumes {
		var v struct {
			HostPath, ContainerPath, Mode string // encoding/json matches the names without case
		}
		if err := json.Unmarshal(raw, &v); err == nil && v.HostPath != "" {
			c.Volumes = append(c.Volumes, strings.TrimSuffix(v.HostPath+":"+v.ContainerPath+":"+strings.ToLower(v.Mode), ":"))
		}
	}
	next := 0
	for _, m := range a.Container.PortMappings {
		if m.HostPort != nil && next < len(ports) {
			c.Ports = append(c.Ports, fmt.Sprintf("%d:%d/%s", ports[next], m.ContainerPort, strings.ToLower(cmp.Or(m.Protocol, "tcp"))))
			next++
		}
	}
	return c
}
