package api

import (
	"context"
	"net/http"
	"net/url"
)

// Standin speaks for one task of one job on the stand-ins' socket.
type Standin struct {
	client *Client
	job    string
}

// NewStandin makes the stand-in's client of a job. o.Token is the job's secret.
func NewStandin(job string, o Options) (*Standin, error) {
	c, err := New(o)
	if err != nil {
		return nil, err
	}
	return &Standin{client: c, job: job}, nil
}

// Claim asks what the task is to do. It waits while the agent settles who holds the job. Repeating it for the same task is no second claim.
func (s *Standin) Claim(ctx context.Context, c Claim) (ClaimResponse, error) {
	return call[ClaimResponse](ctx, s.client, http.MethodPost, s.path("claim"), c)
}

// Stop tells the agent that the task was told to stop.
func (s *Standin) Stop(ctx context.Context, stop Stop) error {
	_, err := call[none](ctx, s.client, http.MethodPost, s.path("stop"), stop)
	return err
}

// Output streams what the task's container writes, from behind a cursor, to the line with its exit code. The caller closes the stream.
func (s *Standin) Output(ctx context.Context, task, cursor string) (*OutputStream, error) {
	q := url.Values{"task": {task}}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	return s.client.stream(ctx, s.path("output"), q)
}

// Close drops idle connections.
func (s *Standin) Close() { s.client.Close() }

func (s *Standin) path(verb string) string {
	return "/v1/standin/" + url.PathEscape(s.job) + "/" + verb
}
