package agent

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"qosctl/framework"
	"qosctl/qos"
)

// port is what the agent wants of a framework. Errors are *framework.Error; one that wraps framework.ErrNotFound says that there is no such app or job.
type port interface {
	// Prepare turns a job into what the framework is given; it sends nothing.
	Prepare(ctx context.Context, spec qos.Spec, secret string) (json.RawMessage, []string, error)
	// Create submits what Prepare made. An error for which framework.Uncertain holds may have created it all the same.
	Create(ctx context.Context, spec qos.Spec, body json.RawMessage) error
	// Look reads what the framework knows of the job now.
	Look(ctx context.Context, spec qos.Spec) (sight, error)
	// Start asks for the next launch. Marathon starts by itself: nothing to do.
	Start(ctx context.Context, name string) error
	// Delete removes the app or job; that there is none is no error.
	Delete(ctx context.Context, name string) error
	// Watch tells of changes until ctx ends: hints to look.
	Watch(ctx context.Context, hint func())
	// Ping says whether the framework answers.
	Ping(ctx context.Context) error
}

// sight is what a framework knows of a job.
type sight struct {
	ID      string   // our id that it carries; "": it was not submitted by us
	CPUs    float64  // the request
	Stopped bool     // scaled to 0, or disabled
	Active  bool     // a task is running or queued
	Tasks   []string // ids of tasks, where the framework tells them
	Lost    []string // those of them that it has lost sight of
	Secret  []byte   // hash of the secret that its tasks are given; nil: none

	On map[string]string // hosts of those, where the framework tells them

	Owner     string // Chronos: of the job
	Succeeded int64  // Chronos: launches that ended well
}

// family is a port of a framework whose jobs can depend on each other.
type family interface {
	// Parent says whether other jobs depend on one.
	Parent(ctx context.Context, name string) (bool, error)
}

// notAsked wraps an error that came before the framework was asked to create anything.
type notAsked struct{ error }

func (e notAsked) Unwrap() error { return e.error }

// inDoubt says whether a submission that failed may have been carried out all the same.
func inDoubt(err error) bool {
	if _, sure := errors.AsType[notAsked](err); sure {
		return false
	}
	if framework.Uncertain(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	e, ok := errors.AsType[*framework.Error](err)
	return ok && e.Method == http.MethodGet && errors.Is(e, framework.ErrUnavailable) // the look that follows a submission failed
}
