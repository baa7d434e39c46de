package agent

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"qosctl/agent/thesis"
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
	s := sight{ID: job.JobID, CPUs: job.CPUs, Stopped: job.Disabled, Active: !activity.Idle(), Owner: job.Owner, Succeeded: job.SuccessCount, Secret: envSecret(job.Env)}
	if s.ID == "" && thesis.Launched(spec.ID, job.Command, job.Env) {
		s.ID = spec.ID
	}
	return s, nil
}

// Relocate replaces the job's constraint on its host, for its next launch. Those of the user stay.
func (p *chronosPort) Relocate(ctx context.Context, r relocation) (string, error) {
	job, err := p.client.Job(ctx, r.Name)
	if err != nil {
		return "", err
	}
	_, err = p.client.SetConstraints(ctx, r.Name, r.chronosConstraints(job.Constraints))
	return "", err
}

// chronosConstraints are those that a job has, with the present hosts in place of all that were told.
func (r relocation) chronosConstraints(has [][]string) [][]string {
	told := append(slices.Clone(r.Perhaps), r.Before)
	is := slices.DeleteFunc(append([][]string{}, has...), func(c []string) bool {
		return slices.ContainsFunc(told, func(hosts []string) bool { return len(hosts) > 0 && slices.Equal(c, chronosHost(hosts)) })
	})
	if len(r.Hosts) > 0 {
		is = append(is, chronosHost(r.Hosts))
	}
	return is
}

// Undo knows no deployments: Relocate without hosts takes a move back.
func (p *chronosPort) Undo(context.Context, string) error { return errNoDeployments }

var errNoDeployments = errors.New("chronos has no deployments")

// chronosHost is Chronos' constraint for one of several hosts. Its LIKE takes a regular expression that the whole name must match.
func chronosHost(hosts []string) []string {
	if len(hosts) == 1 {
		return []string{"hostname", "EQUALS", hosts[0]}
	}
	return []string{"hostname", "LIKE", hostConstraint(hosts)[2]}
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
