package agent

import (
	"context"
	"encoding/json"

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
	}
	for _, t := range app.Tasks {
		s.Tasks = append(s.Tasks, t.ID)
	}
	return s, nil
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
