package marathon

import (
	"maps"
	"slices"
	"time"

	"qosctl/devmesos/node"
)

// emit publishes an event.
func (c *Core) emit(kind string, now time.Time, fields map[string]any) {
	fields["eventType"] = kind
	fields["timestamp"] = timestamp(now)
	c.o.Emit(kind, fields)
}

func (c *Core) statusEvent(s *appState, i *instance, st node.Status) {
	c.emit("status_update_event", st.At, map[string]any{
		"slaveId": i.Agent, "taskId": i.TaskID, "taskStatus": string(st.State), "message": st.Message, "appId": s.spec.ID, "host": i.Host,
		"ipAddresses": []any{}, "ports": orEmpty(i.Ports), "version": *i.spec.Version,
	})
}

func (c *Core) changed(s *appState, i *instance, now time.Time) {
	c.emit("instance_changed_event", now, map[string]any{
		"instanceId": i.ID, "condition": i.condition(), "runSpecId": s.spec.ID, "agentId": i.Agent, "host": i.Host, "runSpecVersion": *i.spec.Version,
	})
}

// planJSON is a deployment as events and GET /v2/deployments show it.
func (c *Core) planJSON(d *deployment) map[string]any {
	steps := []any{}
	for _, s := range d.steps {
		steps = append(steps, stepJSON(s))
	}
	current := []any{}
	if d.step < len(d.steps) {
		for _, a := range d.steps[d.step] {
			current = append(current, map[string]any{"action": a.Type, "app": a.App, "readinessCheckResults": []any{}})
		}
	}
	return map[string]any{
		"id": d.ID, "version": d.Version, "affectedApps": slices.Sorted(maps.Keys(d.target)), "affectedPods": []any{}, "steps": steps,
		"currentActions": current, "currentStep": min(d.step+1, len(d.steps)), "totalSteps": len(d.steps),
	}
}

func stepJSON(step []*action) map[string]any {
	actions := []any{}
	for _, a := range step {
		actions = append(actions, map[string]any{"action": a.Type, "app": a.App})
	}
	return map[string]any{"actions": actions}
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
