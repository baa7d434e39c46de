package marathon

import (
	"maps"
	"slices"
	"time"

	"qosctl/devmesos/node"
)

// savedRun is an instance whose task outlives the scheduler's process.
type savedRun struct {
	App         string            `json:"app"`
	Spec        *App              `json:"spec"` // it was launched with
	ID          string            `json:"id"`
	Task        string            `json:"task"`
	Incarnation int               `json:"incarnation"`
	State       node.State        `json:"state"`
	Ports       []int             `json:"ports,omitempty"`
	Host        string            `json:"host"`
	Agent       string            `json:"agent"`
	Attributes  map[string]string `json:"attributes,omitempty"`
	Staged      time.Time         `json:"staged"`
	Started     time.Time         `json:"started"`
	Since       time.Time         `json:"since"` // unreachable
	Doomed      bool              `json:"doomed,omitempty"`
	CountsUntil time.Time         `json:"counts_until"`
}

// lasting lists the instances to be kept.
func (c *Core) lasting() []savedRun {
	var list []savedRun
	for _, id := range slices.Sorted(maps.Keys(c.apps)) {
		for _, i := range c.apps[id].instances {
			if i.TaskID == "" || !i.Lasting {
				continue
			}
			list = append(list, savedRun{
				App: id, Spec: i.spec, ID: i.ID, Task: i.TaskID, Incarnation: i.Incarnation, State: i.State, Ports: i.Ports, Host: i.Host, Agent: i.Agent,
				Attributes: i.Attributes, Staged: i.Staged, Started: i.Started, Since: i.since, Doomed: i.doomed, CountsUntil: i.countsUntil,
			})
		}
	}
	return list
}

// restore takes back what lasting gave. Instances of apps that are no more are left out: their tasks are killed when they are heard of.
func (c *Core) restore(list []savedRun) {
	for _, r := range list {
		s := c.apps[r.App]
		if s == nil || r.Spec == nil || r.Spec.VersionInfo == nil || r.Spec.Version == nil || r.Task == "" {
			continue
		}
		c.complete(r.Spec)
		s.instances = append(s.instances, &instance{
			ID: r.ID, TaskID: r.Task, Incarnation: r.Incarnation, State: r.State, Ports: r.Ports, Host: r.Host, Agent: r.Agent, Attributes: r.Attributes,
			Lasting: true, Staged: r.Staged, Started: r.Started, spec: r.Spec, config: configVersion(r.Spec), doomed: r.Doomed, since: r.Since,
			countsUntil: r.CountsUntil,
		})
	}
}
