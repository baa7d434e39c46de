package marathon

import (
	"bytes"
	"encoding/json"

	"qosctl/devmesos/node"
)

// embed says what an app's answer holds beside the definition.
type embed struct {
	counts, deployments, tasks, failure bool
}

// appJSON is an app as GET shows it (AppInfo).
func (c *Core) appJSON(s *appState, e embed) map[string]any {
	b, _ := json.Marshal(c.answer(s.spec)) // a stored definition encodes
	out := map[string]any{}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	_ = dec.Decode(&out)
	for k, v := range map[string]any{"labels": map[string]any{}, "env": map[string]any{}, "constraints": []any{}} {
		if _, ok := out[k]; !ok {
			out[k] = v
		}
	}
	if e.counts {
		staged, running := 0, 0
		for _, i := range s.instances {
			switch i.State {
			case node.Staging, node.Starting:
				staged++
			case node.Running:
				running++
			}
		}
		out["tasksStaged"], out["tasksRunning"], out["tasksHealthy"], out["tasksUnhealthy"] = staged, running, 0, 0
	}
	if e.deployments {
		list := []any{}
		for _, id := range c.lockedBy(s.spec.ID) {
			list = append(list, map[string]string{"id": id})
		}
		out["deployments"] = list
	}
	if e.tasks {
		out["tasks"] = c.tasksJSON(s)
	}
	if e.failure && s.failure != nil {
		out["lastTaskFailure"] = s.failure
	}
	return out
}

func (c *Core) tasksJSON(s *appState) []map[string]any {
	list := []map[string]any{}
	for _, i := range s.instances {
		if i.TaskID != "" {
			list = append(list, c.taskJSON(s, i))
		}
	}
	return list
}

func (c *Core) taskJSON(s *appState, i *instance) map[string]any {
	t := map[string]any{
		"appId": s.spec.ID, "id": i.TaskID, "host": i.Host, "slaveId": i.Agent, "state": string(i.State), "ports": orEmpty(i.Ports),
		"ipAddresses": []any{}, "localVolumes": []any{}, "servicePorts": []any{}, "healthCheckResults": []any{},
		"stagedAt": timestamp(i.Staged), "version": *i.spec.Version,
	}
	if !i.Started.IsZero() {
		t["startedAt"] = timestamp(i.Started)
	}
	return t
}
