package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"qosctl/qos"
)

// History answers GET /v1/jobs/{id}/history: a job's figures over time, in columns of one length, oldest first. Each is a reading as it was
// made; the older they are the fewer are kept.
type History struct {
	Job        string      `json:"job"`
	Since      time.Time   `json:"since,omitzero"` // nothing is known here of before
	At         []int64     `json:"at"`             // milliseconds since 1970
	Ratio      []float32   `json:"progress_ratio"`
	Used       []float32   `json:"used_cpu_seconds"`     // that counts: of the execution, or of all iterations of a series
	Consumed   []float32   `json:"consumed_cpu_seconds"` // the same with what was spent on lost work
	Desired    []float32   `json:"desired_cpu_seconds"`
	Allocation []float32   `json:"allocation_cpus"`
	Usage      []float32   `json:"usage_cpus"`
	Need       []float32   `json:"need_cpus"`
	Margin     []float32   `json:"prediction_minus_deadline"` // seconds
	State      []qos.State `json:"state"`
	Late       []bool      `json:"late"`
	Index      []int       `json:"index"` // of the execution or iteration
	Changes    []Change    `json:"changes"`
	Runs       []PastRun   `json:"runs"`
}

// Change is a moment at which a job's phase, node, execution or container became another.
type Change struct {
	At          time.Time `json:"at"`
	Phase       qos.Phase `json:"phase"`
	Node        string    `json:"node,omitempty"` // "": none yet, or one of too many to be kept
	Index       int       `json:"index,omitempty"`
	Incarnation int       `json:"incarnation,omitempty"`
}

// PastRun is an ended execution or iteration in a History.
type PastRun struct {
	Index        int         `json:"index"`
	Started      time.Time   `json:"started"`
	Seconds      float64     `json:"seconds"`
	CPU          float32     `json:"cpu_seconds"`
	MeanCPUs     float32     `json:"mean_cpus"` // time-weighted allocation
	Outcome      qos.Outcome `json:"outcome"`
	Incarnations int         `json:"incarnations"`
}

// History tells a job's figures over time; with after, only readings and changes later than that.
func (c *Client) History(ctx context.Context, id string, after time.Time) (History, error) {
	path := jobPath(id) + "/history"
	if !after.IsZero() {
		path += "?" + url.Values{"after": {strconv.FormatInt(after.UnixMilli(), 10)}}.Encode()
	}
	return call[History](ctx, c, http.MethodGet, path, nil)
}
