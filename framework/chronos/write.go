package chronos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"qosctl/framework"
)

// Submit creates a job and returns once Chronos shows it. Chronos itself would replace a job of the same name in silence, so
// one looks first: ErrExists if it is there and is not the same job of ours.
func (k *Client) Submit(ctx context.Context, job json.RawMessage) (Job, error) {
	var want Job
	if err := json.Unmarshal(job, &want); err != nil {
		return Job{}, fmt.Errorf("submit job: %w", err)
	}
	got, err := k.Job(ctx, want.Name)
	switch {
	case err == nil && want.JobID != "" && got.JobID == want.JobID:
		return got, nil
	case err == nil:
		return Job{}, &framework.Error{
			Framework: k.c.Name(), Method: http.MethodPost, Path: "/iso8601", Status: http.StatusOK,
			Message: fmt.Sprintf("a job named %q exists already", want.Name), Kind: framework.ErrExists,
		}
	case !errors.Is(err, framework.ErrNotFound):
		return Job{}, err
	}
	return k.post(ctx, want, job)
}

// Replace creates a job, or puts it in the place of the one that has its name: schedule and counters start anew, a running
// task is left alone.
func (k *Client) Replace(ctx context.Context, job json.RawMessage) (Job, error) {
	var want Job
	if err := json.Unmarshal(job, &want); err != nil {
		return Job{}, fmt.Errorf("submit job: %w", err)
	}
	return k.post(ctx, want, job)
}

// SetCPUs changes a job's cpus, which act at its next launch. It sends back what Chronos has, with only cpus changed: a count
// that Chronos makes at the same moment may be lost, as its API has no other way.
func (k *Client) SetCPUs(ctx context.Context, name string, cpus float64) (Job, error) {
	return k.modify(ctx, name, map[string]any{"cpus": cpus})
}

// SetConstraints changes which hosts a job's next launch may have. Chronos knows EQUALS, LIKE and UNLIKE, and drops others in silence.
func (k *Client) SetConstraints(ctx context.Context, name string, constraints [][]string) (Job, error) {
	return k.modify(ctx, name, map[string]any{"constraints": constraints})
}

// SetDisabled disables a job, or enables it again.
func (k *Client) SetDisabled(ctx context.Context, name string, disabled bool) (Job, error) {
	return k.modify(ctx, name, map[string]any{"disabled": disabled})
}

// modify sends a job back as Chronos gave it, with some fields changed.
func (k *Client) modify(ctx context.Context, name string, change map[string]any) (Job, error) {
	got, err := k.Job(ctx, name)
	if err != nil {
		return Job{}, err
	}
	body, err := merge(got.Raw, change)
	if err != nil {
		return Job{}, fmt.Errorf("change job %s: %w", name, err)
	}
	var want Job
	if err := json.Unmarshal(body, &want); err != nil {
		return Job{}, fmt.Errorf("change job %s: %w", name, err)
	}
	return k.post(ctx, want, body)
}

// merge changes top-level fields of an object. A null is left out: to Chronos "command": null is the text "null".
func merge(object json.RawMessage, change map[string]any) (json.RawMessage, error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(object, &fields); err != nil {
		return nil, err
	}
	for name, value := range fields {
		if string(value) == "null" {
			delete(fields, name)
		}
	}
	for name, value := range change {
		raw, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		fields[name] = raw
	}
	return json.Marshal(fields)
}

// post sends a job, and looks until Chronos shows it as sent: its answer has no body, a lost one may have been a yes, and a new
// job is seen only after the main loop's next turn.
func (k *Client) post(ctx context.Context, want Job, body json.RawMessage) (Job, error) {
	path := "/iso8601"
	if len(want.Parents) > 0 {
		path = "/dependency"
	}
	const tries = 3
	var err error
	for range tries {
		_, err = k.do(ctx, framework.Request{Method: http.MethodPost, Path: path, Body: body, Secrets: []string{want.Env[framework.EnvSecret], want.Env[framework.EnvSpec]}})
		if err != nil && !framework.Uncertain(err) {
			return Job{}, err
		}
		wait := k.settle
		if statusOf(err) == http.StatusInternalServerError {
			wait = 0 // it said no: one look is enough
		}
		got, lookErr := k.await(ctx, want, wait)
		switch {
		case lookErr == nil:
			return got, nil
		case err != nil && statusOf(err) == http.StatusInternalServerError && errors.Is(lookErr, errNotShown):
			return Job{}, refused(err)
		case !errors.Is(lookErr, errNotShown):
			return Job{}, errors.Join(err, lookErr)
		case err == nil:
			return Job{}, &framework.Error{
				Framework: k.c.Name(), Method: http.MethodPost, Path: path, Status: http.StatusNoContent, Uncertain: true,
				Message: fmt.Sprintf("job %q was taken, and is not shown after %s", want.Name, k.settle), Kind: framework.ErrUnavailable,
			}
		}
	}
	return Job{}, err
}

// refused takes the doubt off an error once a look has shown that it had no effect.
func refused(err error) error {
	if e, ok := errors.AsType[*framework.Error](err); ok {
		sure := *e
		sure.Uncertain = false
		return &sure
	}
	return err
}

// errNotShown says that Chronos does not (yet) show a job as it was sent.
var errNotShown = errors.New("not shown")

// await looks for a job until it is as wanted, for at most wait.
func (k *Client) await(ctx context.Context, want Job, wait time.Duration) (Job, error) {
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	tick := time.NewTicker(k.poll)
	defer tick.Stop()
	for {
		got, err := k.Job(ctx, want.Name)
		if err == nil && want.matches(got) {
			return got, nil
		}
		if err != nil && !errors.Is(err, framework.ErrNotFound) {
			return Job{}, err
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return Job{}, errNotShown
		case <-ctx.Done():
			return Job{}, context.Cause(ctx)
		}
	}
}

// matches compares what was sent with what Chronos shows, in what can't change by itself.
func (j Job) matches(got Job) bool {
	return j.Name == got.Name && j.Command == got.Command && j.Disabled == got.Disabled && j.JobID == got.JobID &&
		(j.Constraints == nil || slices.EqualFunc(kept(j.Constraints), kept(got.Constraints), slices.Equal)) &&
		(j.CPUs == 0 || j.CPUs == got.CPUs) // 0 is Chronos' own default
}

// kept are the constraints that Chronos keeps of those it is sent.
func kept(constraints [][]string) [][]string {
	list := [][]string{}
	for _, c := range constraints {
		if len(c) == 3 && slices.Contains([]string{"EQUALS", "LIKE", "UNLIKE"}, strings.ToUpper(c[1])) {
			list = append(list, []string{c[0], strings.ToUpper(c[1]), c[2]})
		}
	}
	return list
}

// Start asks for a launch now. Success means maybe: Chronos drops the request if the job runs or is disabled, so the caller
// looks with Running and asks again. So does an Uncertain error. A job that was just created may not be known for some
// seconds: it is waited for.
func (k *Client) Start(ctx context.Context, name string) error {
	deadline := time.NewTimer(k.settle)
	defer deadline.Stop()
	tick := time.NewTicker(k.poll)
	defer tick.Stop()
	for {
		err := k.act(ctx, http.MethodPut, "/job/"+url.PathEscape(name), name)
		if !errors.Is(err, framework.ErrNotFound) {
			return err
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return err
		case <-ctx.Done():
			return err
		}
	}
}

// Delete kills a job's tasks and removes it. ErrNotFound if there is none.
func (k *Client) Delete(ctx context.Context, name string) error {
	err := k.act(ctx, http.MethodDelete, "/job/"+url.PathEscape(name), name)
	if e, ok := errors.AsType[*framework.Error](err); ok && e.Repeated && errors.Is(e, framework.ErrNotFound) {
		return nil // the first sending did it
	}
	return err
}

// KillTask kills a job's running tasks. That nothing runs is no error.
func (k *Client) KillTask(ctx context.Context, name string) error {
	return k.act(ctx, http.MethodDelete, "/task/kill/"+url.PathEscape(name), name)
}

// act sends a request without a body. Chronos 2.x may answer a bare 400 for a job that it doesn't know: one looks.
func (k *Client) act(ctx context.Context, method, path, name string) error {
	_, err := k.do(ctx, framework.Request{Method: method, Path: path, Safe: method == http.MethodDelete})
	if statusOf(err) != http.StatusBadRequest || errors.Is(err, framework.ErrNotFound) {
		return err
	}
	if _, lookErr := k.Job(ctx, name); errors.Is(lookErr, framework.ErrNotFound) {
		if e, ok := errors.AsType[*framework.Error](err); ok {
			unknown := *e
			unknown.Kind, unknown.Message = framework.ErrNotFound, fmt.Sprintf("Job %q not found", name)
			return &unknown
		}
	}
	return err
}
