// Package chronos is a client for Chronos' REST API (2.x below /scheduler, 3.x below /v1/scheduler), and turns a job file into the
// job that Chronos gets. Requests, answers and their sources: docs/contract.md.
package chronos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"qosctl/framework"
)

// Options set a Client up. The zero value is good.
type Options struct {
	Logger    *slog.Logger
	Transport http.RoundTripper // nil: one of its own
	Backoff   time.Duration     // of retries; 0: the framework package's
	// Settle is how long a job may take to appear after Chronos has taken it; 0: 15 s.
	Settle time.Duration
	// Poll is how often one looks for it meanwhile; 0: 500 ms.
	Poll time.Duration
}

// Client talks to one Chronos, of one or several instances. It is safe for use by several goroutines.
type Client struct {
	c      *framework.Client
	settle time.Duration
	poll   time.Duration
	prefix atomic.Pointer[string] // nil: not yet probed
}

// The prefixes of Chronos' API. No release serves both.
const (
	prefixV3 = "/v1/scheduler"
	prefixV2 = "/scheduler"
)

// New makes a client. It sends nothing.
func New(e framework.Endpoint, o Options) (*Client, error) {
	if e.Name == "" {
		e.Name = "chronos"
	}
	if o.Settle < 0 || o.Poll < 0 {
		return nil, fmt.Errorf("endpoint %q: settle and poll must not be negative", e.Name)
	}
	c, err := framework.NewClient(framework.ClientOptions{
		Endpoint: e, Logger: o.Logger, Transport: o.Transport, Backoff: o.Backoff, Classify: classify,
	})
	if err != nil {
		return nil, err
	}
	k := &Client{c: c, settle: o.Settle, poll: o.Poll}
	if k.settle == 0 {
		k.settle = 15 * time.Second
	}
	if k.poll == 0 {
		k.poll = 500 * time.Millisecond
	}
	return k, nil
}

// Close closes idle connections.
func (k *Client) Close() { k.c.Close() }

// classify knows that Chronos has no 404 for jobs: it is a 400 with a Java stack trace that says "not found".
func classify(e *framework.Error) {
	if _, said, ok := strings.Cut(e.Message, "requirement failed: "); ok {
		e.Message = said
	} else if class, said, ok := strings.Cut(e.Message, ": "); ok && strings.HasPrefix(class, "java.") {
		e.Message = said
	}
	switch {
	case e.Status == http.StatusBadRequest && strings.Contains(strings.ToLower(e.Message+e.Body), "not found"):
		e.Kind = framework.ErrNotFound
	case e.Status == http.StatusNotFound:
		e.Kind = framework.ErrUnavailable
	}
}

// Ping asks whether Chronos answers.
func (k *Client) Ping(ctx context.Context) error {
	_, err := k.c.Do(ctx, framework.Request{Method: http.MethodGet, Path: "/ping", Accept: "text/plain, */*;q=0.5"})
	return err
}

// V3 says whether this Chronos is 3.0 or later, by the prefix that it answers at.
func (k *Client) V3(ctx context.Context) (bool, error) {
	prefix, err := k.base(ctx)
	return prefix == prefixV3, err
}

// base is the prefix of the API, probed once.
func (k *Client) base(ctx context.Context) (string, error) {
	if p := k.prefix.Load(); p != nil {
		return *p, nil
	}
	var last error
	for _, prefix := range []string{prefixV3, prefixV2} {
		var jobs []json.RawMessage
		err := framework.GetJSON(ctx, k.c, prefix+"/jobs", nil, &jobs)
		if err == nil {
			k.prefix.Store(&prefix)
			return prefix, nil
		}
		last = err
		if e, ok := errors.AsType[*framework.Error](err); !ok || e.Status != http.StatusNotFound {
			return "", err
		}
	}
	return "", fmt.Errorf("neither %s nor %s is served: %w", prefixV3, prefixV2, last)
}

// do sends a request below the prefix.
func (k *Client) do(ctx context.Context, r framework.Request) (*framework.Response, error) {
	prefix, err := k.base(ctx)
	if err != nil {
		return nil, err
	}
	r.Path = prefix + r.Path
	resp, err := k.c.Do(ctx, r)
	if statusOf(err) == http.StatusNotFound {
		k.prefix.Store(nil) // another release than before: probe again next time
	}
	return resp, err
}

// get reads a JSON answer below the prefix.
func (k *Client) get(ctx context.Context, path string, query url.Values, into any) error {
	prefix, err := k.base(ctx)
	if err != nil {
		return err
	}
	err = framework.GetJSON(ctx, k.c, prefix+path, query, into)
	if statusOf(err) == http.StatusNotFound {
		k.prefix.Store(nil)
	}
	return err
}

func statusOf(err error) int {
	if e, ok := errors.AsType[*framework.Error](err); ok {
		return e.Status
	}
	return 0
}

// Job describes one job, by its exact name. ErrNotFound if there is none.
func (k *Client) Job(ctx context.Context, name string) (Job, error) {
	v3, err := k.V3(ctx)
	if err != nil {
		return Job{}, err
	}
	if !v3 {
		return k.search(ctx, name)
	}
	var job Job
	path := "/job/" + url.PathEscape(name)
	if err := k.get(ctx, path, nil, &job); err != nil {
		return Job{}, err
	}
	if job.Name != name {
		return Job{}, framework.Odd(k.c, http.MethodGet, path, fmt.Sprintf("job %q in it", job.Name))
	}
	return job, nil
}

// search finds a job of Chronos 2.x, whose search looks for parts of names and answers ten of them unless told otherwise.
func (k *Client) search(ctx context.Context, name string) (Job, error) {
	const page, pages = 100, 100
	for i := range pages {
		query := url.Values{"name": {name}, "limit": {fmt.Sprint(page)}, "offset": {fmt.Sprint(i * page)}}
		var jobs []Job
		if err := k.get(ctx, "/jobs/search", query, &jobs); err != nil {
			return Job{}, err
		}
		for _, j := range jobs {
			if j.Name == name {
				return j, nil
			}
		}
		if len(jobs) < page {
			break
		}
	}
	return Job{}, &framework.Error{
		Framework: k.c.Name(), Method: http.MethodGet, Path: "/scheduler/jobs/search", Status: http.StatusOK,
		Message: fmt.Sprintf("Job %q not found", name), Kind: framework.ErrNotFound,
	}
}

// Jobs lists all jobs.
func (k *Client) Jobs(ctx context.Context) ([]Job, error) {
	var jobs []Job
	err := k.get(ctx, "/jobs", nil, &jobs)
	return jobs, err
}

// Running tells what Chronos does with a job just now. ErrNotFound if it doesn't know the job.
func (k *Client) Running(ctx context.Context, name string) (Activity, error) {
	v3, err := k.V3(ctx)
	if err != nil {
		return Activity{}, err
	}
	if v3 {
		var summary struct {
			Jobs []struct{ Name, Status, State string } `json:"jobs"`
		}
		err := k.get(ctx, "/jobs/summary", nil, &summary)
		if err == nil {
			for _, j := range summary.Jobs {
				if j.Name == name {
					return parseActivity(j.Status, j.State), nil
				}
			}
			return Activity{}, k.unknown("/jobs/summary", name)
		}
		if status := statusOf(err); status != http.StatusNotFound && status != http.StatusInternalServerError {
			return Activity{}, err
		}
	}
	resp, err := k.do(ctx, framework.Request{Method: http.MethodGet, Path: "/graph/csv", Accept: "text/plain, */*;q=0.5"})
	if err != nil {
		return Activity{}, err
	}
	if a, ok := activityFromCSV(resp.Body, name); ok {
		return a, nil
	}
	return Activity{}, k.unknown("/graph/csv", name)
}

func (k *Client) unknown(path, name string) error {
	return &framework.Error{
		Framework: k.c.Name(), Method: http.MethodGet, Path: path, Status: http.StatusOK,
		Message: fmt.Sprintf("Job %q not found", name), Kind: framework.ErrNotFound,
	}
}
