package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Submit hands a job in. The same ID a second time changes nothing and gets the same answer, so a caller may repeat it.
func (c *Client) Submit(ctx context.Context, r SubmitRequest) (SubmitResponse, error) {
	return call[SubmitResponse](ctx, c, http.MethodPost, "/v1/jobs", r)
}

// Jobs lists the live jobs; with all, those that have ended too.
func (c *Client) Jobs(ctx context.Context, all bool) ([]Job, error) {
	path := "/v1/jobs"
	if all {
		path += "?all=true"
	}
	list, err := call[JobList](ctx, c, http.MethodGet, path, nil)
	return list.Jobs, err
}

// Job describes the job of an ID or name.
func (c *Client) Job(ctx context.Context, id string) (Job, error) {
	return call[Job](ctx, c, http.MethodGet, jobPath(id), nil)
}

// Watch describes a job as soon as its revision is greater than since, at the latest after wait, then perhaps unchanged.
func (c *Client) Watch(ctx context.Context, id string, since uint64, wait time.Duration) (Job, error) {
	q := url.Values{"since": {strconv.FormatUint(since, 10)}, "wait": {wait.String()}}
	return callWithin[Job](ctx, c, wait+c.timeout, http.MethodGet, jobPath(id)+"?"+q.Encode(), nil)
}

// Cancel ends a job, and answers the job as it then is. A job that has ended already stays as it was.
func (c *Client) Cancel(ctx context.Context, id string) (Job, error) {
	return call[Job](ctx, c, http.MethodDelete, jobPath(id), nil)
}

// Explain tells what was decided about a job, and why.
func (c *Client) Explain(ctx context.Context, id string) (Explanation, error) {
	return call[Explanation](ctx, c, http.MethodGet, jobPath(id)+"/explain", nil)
}

// LogsRequest says which output of a job Logs reads.
type LogsRequest struct {
	Stream string // stdout, stderr; "": both
	Follow bool   // go on with what the job writes from now on, over its executions, until it has ended
	Cursor string // of an Output had before: what comes behind it; "": from the beginning of what is kept
}

// Logs reads a job's output. The caller closes the stream.
func (c *Client) Logs(ctx context.Context, id string, r LogsRequest) (*OutputStream, error) {
	q := url.Values{}
	if r.Stream != "" {
		q.Set("stream", r.Stream)
	}
	if r.Follow {
		q.Set("follow", "true")
	}
	if r.Cursor != "" {
		q.Set("cursor", r.Cursor)
	}
	return c.stream(ctx, jobPath(id)+"/logs", q)
}

// Attach gives QoS to an app or job that the framework has already, and answers the job made for it. Idempotent by ID.
func (c *Client) Attach(ctx context.Context, a Attach) (Job, error) {
	return call[Job](ctx, c, http.MethodPost, "/v1/attach", a)
}

// Detach forgets an attached job and leaves its app as it was found. Its container goes back to its request.
func (c *Client) Detach(ctx context.Context, id string) error {
	_, err := call[none](ctx, c, http.MethodDelete, "/v1/attach/"+url.PathEscape(id), nil)
	return err
}

// Node describes the agent and its node.
func (c *Client) Node(ctx context.Context) (Node, error) {
	return call[Node](ctx, c, http.MethodGet, "/v1/node", nil)
}

// Health returns nil if the agent lives.
func (c *Client) Health(ctx context.Context) error {
	_, err := call[none](ctx, c, http.MethodGet, "/v1/health", nil)
	return err
}

// Ready returns nil if the agent takes jobs; else the error's text says what it waits for.
func (c *Client) Ready(ctx context.Context) error {
	_, err := call[none](ctx, c, http.MethodGet, "/v1/ready", nil)
	return err
}

// Metrics is the agent's page for Prometheus, as text.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) {
	return c.exchange(ctx, c.timeout, http.MethodGet, "/metrics", nil)
}

// jobPath is the path of a job's resource. A name with slashes stays one segment: /a/b is %2Fa%2Fb.
func jobPath(id string) string { return "/v1/jobs/" + url.PathEscape(id) }
