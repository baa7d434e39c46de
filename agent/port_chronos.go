package agent

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"qosctl/framework"
	"qosctl/framework/chronos"
	"qosctl/qos"
)

// chronosPort is a Chronos as the agent sees it.
type chronosPort struct {
	portCommon
	client *chronos.Client
}

func (p *chronosPort) Prepare(_ context.Context, spec qos.Spec, secret string) (json.RawMessage, []string, error) {
	return chronos.Prepare(spec, chronos.PrepareOptions{Command: p.command, Secret: secret, Socket: p.socket, Constraint: p.constraint})
}

func (p *chronosPort) Create(ctx context.Context, spec qos.Spec, body json.RawMessage) error {
	if _, err := p.client.Job(ctx, spec.Name); err != nil && !errors.Is(err, framework.ErrNotFound) {
		return notAsked{err}
	}
	_, err := p.client.Submit(ctx, body)
	return err
}

func (p *chronosPort) Look(ctx context.Context, spec qos.Spec) (sight, error) {
	job, err := p.client.Job(ctx, spec.Name)
	if err != nil {
		return sight{}, err
	}
	activity, err := p.client.Running(ctx, spec.Name)
	if err != nil {
		return sight{}, err
	}
	return sight{ID: job.JobID, CPUs: job.CPUs, Stopped: job.Disabled, Active: !activity.Idle()}, nil
}

func (p *chronosPort) Start(ctx context.Context, name string) error { return p.client.Start(ctx, name) }

// Delete removes the job; one that other jobs depend on is disabled instead, as its removal would rewire them.
func (p *chronosPort) Delete(ctx context.Context, name string) error {
	parent, err := p.Parent(ctx, name)
	if err != nil {
		return err
	}
	if parent {
		_, err = p.client.SetDisabled(ctx, name, true)
		return err
	}
	return p.client.Delete(ctx, name)
}

// Parent says whether other jobs depend on one.
func (p *chronosPort) Parent(ctx context.Context, name string) (bool, error) {
	all, err := p.client.Jobs(ctx)
	return slices.ContainsFunc(all, func(j chronos.Job) bool { return slices.Contains(j.Parents, name) }), err
}

// Watch does nothing: Chronos has no events.
func (p *chronosPort) Watch(context.Context, func()) {}

func (p *chronosPort) Ping(ctx context.Context) error { return p.client.Ping(ctx) }
