package api

import (
	"cmp"
	"context"
	"net/http"
	"net/url"

	"qosctl/qos"
)

// What usage can be added up by.
const (
	UsageByTenant = "tenant"
	UsageByJob    = "job"
	UsageByDay    = "day"
)

// UsageReport answers GET /v1/usage: what runs that ended from Since to Until have used.
type UsageReport struct {
	By      string   `json:"by"`
	Since   string   `json:"since"` // day, UTC
	Until   string   `json:"until"` // likewise, included
	Rows    []Usage  `json:"rows"`
	Missing []string `json:"missing"` // nodes whose part is not in it: they do not answer
}

// Usage is one row of a UsageReport.
type Usage struct {
	UsageKey
	UsageCounts
}

// UsageKey is what a row is of; which of it is set, By says.
type UsageKey struct {
	Tenant    string        `json:"tenant,omitempty"`
	Job       string        `json:"job,omitempty"` // by job: "" for those of long ago that were added up
	Framework qos.Framework `json:"framework,omitempty"`
	Day       string        `json:"day,omitempty"`
}

// Compare orders rows.
func (k UsageKey) Compare(l UsageKey) int {
	return cmp.Or(cmp.Compare(k.Day, l.Day), cmp.Compare(k.Tenant, l.Tenant), cmp.Compare(k.Job, l.Job), cmp.Compare(k.Framework, l.Framework))
}

// UsageCounts are sums over ended runs.
type UsageCounts struct {
	Runs      int     `json:"runs"`
	Met       int     `json:"met"`                   // deadlines: of executions, or of whole series
	Missed    int     `json:"missed"`                // likewise
	Failed    int     `json:"failed"`                // runs
	CPU       float64 `json:"cpu_seconds"`           // consumed
	Requested float64 `json:"requested_cpu_seconds"` // what the framework had sold: the request over the time with a container
	Borrowed  float64 `json:"borrowed_cpu_seconds"`  // of CPU, above the request
	Lost      float64 `json:"lost_cpu_seconds"`      // of CPU, what came to nothing: after a checkpoint that was gone back to, and in runs that failed
	Overhead  float64 `json:"overhead_cpu_seconds"`  // beside CPU, of restores themselves
}

// Plus is the sum of two.
func (c UsageCounts) Plus(d UsageCounts) UsageCounts {
	return UsageCounts{
		c.Runs + d.Runs, c.Met + d.Met, c.Missed + d.Missed, c.Failed + d.Failed,
		c.CPU + d.CPU, c.Requested + d.Requested, c.Borrowed + d.Borrowed, c.Lost + d.Lost, c.Overhead + d.Overhead,
	}
}

// Times is n times the same.
func (c UsageCounts) Times(n int) UsageCounts {
	f := float64(n)
	return UsageCounts{
		n * c.Runs, n * c.Met, n * c.Missed, n * c.Failed, f * c.CPU, f * c.Requested, f * c.Borrowed, f * c.Lost, f * c.Overhead,
	}
}

// UsageRequest says which usage is wanted.
type UsageRequest struct {
	By, Since, Until string // "": the agent's defaults
}

// Usage tells what ended runs have used, on all nodes of the cluster.
func (c *Client) Usage(ctx context.Context, r UsageRequest) (UsageReport, error) {
	q := url.Values{}
	for name, value := range map[string]string{"by": r.By, "since": r.Since, "until": r.Until} {
		if value != "" {
			q.Set(name, value)
		}
	}
	path := "/v1/usage"
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return call[UsageReport](ctx, c, http.MethodGet, path, nil)
}
