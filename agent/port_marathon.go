package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"qosctl/agent/thesis"
	"qosctl/framework/marathon"
	"qosctl/qos"
)

// marathonPort is a Marathon as the agent sees it.
type marathonPort struct {
	portCommon
	client *marathon.Client
}

func (p *marathonPort) Prepare(ctx context.Context, spec qos.Spec, secret string) (json.RawMessage, []string, error) {
	info, err := p.client.Info(ctx)
	if err != nil {
		return nil, nil, err
	}
	return marathon.Prepare(spec, marathon.PrepareOptions{
		Command: p.command, Secret: secret, Socket: p.socket, Constraint: p.constraint, Version: info.V,
	})
}

func (p *marathonPort) Create(ctx context.Context, _ qos.Spec, body json.RawMessage) error {
	_, err := p.client.CreateApp(ctx, body)
	return err
}

func (p *marathonPort) Look(ctx context.Context, spec qos.Spec) (sight, error) {
	app, err := p.client.App(ctx, spec.Name)
	if err != nil {
		return sight{}, err
	}
	s := sight{
		ID: app.Labels[labelJob], CPUs: app.CPUs, Stopped: app.Instances == 0, Active: app.Staged+app.Running > 0, Tasks: []string{},
		On: map[string]string{}, Secret: envSecret(app.Env),
	}
	if s.ID == "" && thesis.Launched(spec.ID, app.Cmd, app.Env) {
		s.ID = spec.ID
	}
	for _, t := range app.Tasks {
		s.Tasks = append(s.Tasks, t.ID)
		if slices.Contains(lostStates, t.State) {
			s.Lost = append(s.Lost, t.ID)
			s.On[t.ID] = t.Host
		}
	}
	return s, nil
}

// Relocate replaces the app's constraint on its host by PATCH. Those of the user stay.
func (p *marathonPort) Relocate(ctx context.Context, r relocation) (string, error) {
	app, err := p.client.App(ctx, r.Name)
	if err != nil {
		return "", err
	}
	constraints := slices.DeleteFunc(slices.Clone(app.Constraints), func(c []string) bool { return slices.Equal(c, hostConstraint(r.Before)) })
	if len(r.Hosts) > 0 {
		constraints = append(constraints, hostConstraint(r.Hosts))
	}
	if constraints == nil {
		constraints = [][]string{}
	}
	c, err := p.client.Patch(ctx, r.Name, marathon.Patch{Constraints: &constraints, Force: r.Force})
	return c.Deployment, err
}

// Bind adds a constraint on hosts to an app that is not created yet.
func (p *marathonPort) Bind(body json.RawMessage, hosts []string) (json.RawMessage, error) {
	var app map[string]json.RawMessage
	if err := json.Unmarshal(body, &app); err != nil {
		return nil, fmt.Errorf("read the app that was prepared: %w", err)
	}
	var list [][]string
	if c := app["constraints"]; c != nil {
		if err := json.Unmarshal(c, &list); err != nil {
			return nil, fmt.Errorf("read the app's constraints: %w", err)
		}
	}
	var err error
	if app["constraints"], err = json.Marshal(append(list, hostConstraint(hosts))); err != nil {
		return nil, fmt.Errorf("write the app's constraints: %w", err)
	}
	return json.Marshal(app)
}

// hostConstraint is Marathon's for one of several hosts: a regular expression that the whole name must match.
func hostConstraint(hosts []string) []string {
	quoted := make([]string, 0, len(hosts))
	for _, h := range hosts {
		quoted = append(quoted, regexp.QuoteMeta(h))
	}
	return []string{"hostname", "LIKE", strings.Join(quoted, "|")}
}

// lostStates are those of tasks whose Mesos agent the master does not hear any more.
var lostStates = []string{"TASK_UNREACHABLE", "TASK_LOST", "TASK_GONE", "TASK_GONE_BY_OPERATOR", "TASK_UNKNOWN", "TASK_DROPPED"}

// Expunge makes Marathon forget a task that it can't reach: it launches another then.
func (p *marathonPort) Expunge(ctx context.Context, name, task string) error {
	return p.client.KillTask(ctx, name, task, true)
}

// Start does nothing: Marathon starts an app's tasks by itself.
func (p *marathonPort) Start(context.Context, string) error { return nil }

func (p *marathonPort) Delete(ctx context.Context, name string) error {
	_, err := p.client.DeleteApp(ctx, name)
	return err
}

func (p *marathonPort) Watch(ctx context.Context, hint func()) {
	for range p.client.Events(ctx) {
		hint()
	}
}

func (p *marathonPort) Ping(ctx context.Context) error { return p.client.Ping(ctx) }

// Resize changes the app's cpus by PATCH, which never creates an app. Its deployment is what Undo wants.
func (p *marathonPort) Resize(ctx context.Context, name string, cpus float64, force bool) (string, error) {
	c, err := p.client.Patch(ctx, name, marathon.Patch{CPUs: &cpus, Force: force})
	return c.Deployment, err
}

// Undo ends a deployment and has Marathon bring the app's former state back.
func (p *marathonPort) Undo(ctx context.Context, deployment string) error {
	_, err := p.client.DeleteDeployment(ctx, deployment, false)
	return err
}
