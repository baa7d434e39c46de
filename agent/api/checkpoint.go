package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Checkpoint is kept process state of a job.
type Checkpoint struct {
	Job         string    `json:"job"`
	Name        string    `json:"name"`
	Sequence    int       `json:"sequence"` // of the job's, from 1
	Execution   int       `json:"execution"`
	Incarnation int       `json:"incarnation"`
	Container   string    `json:"container"`        // that it was taken of
	Cgroup      string    `json:"cgroup"`           // whose counter was read
	Node        string    `json:"node"`             // that took it
	Holder      string    `json:"holder,omitempty"` // that has it
	Driver      string    `json:"driver"`
	Taken       time.Time `json:"taken"`
	CPU         float64   `json:"cpu_seconds"` // embodied
	Bytes       int64     `json:"bytes"`
	Resident    int64     `json:"resident_bytes"`     // memory in it
	Kept        bool      `json:"kept"`               // the container went on running
	Sealed      bool      `json:"sealed"`             // durable and verified
	Verified    string    `json:"verified,omitempty"` // when it was asked to be: "ok", or what is wrong
	Frozen      float64   `json:"frozen_seconds"`
	Took        float64   `json:"took_seconds"`
	Reason      string    `json:"reason,omitempty"`
}

// CheckpointList answers GET /v1/checkpoints?job=J&verify=true.
type CheckpointList struct {
	Checkpoints []Checkpoint `json:"checkpoints"`
}

// CheckpointRequest asks for a checkpoint: POST /v1/jobs/{job}/checkpoints.
type CheckpointRequest struct {
	Stop   bool   `json:"stop,omitempty"` // end the container: its next task goes on from the checkpoint
	Reason string `json:"reason,omitempty"`
}

// RestoreRequest asks that a job go on from a checkpoint: POST /v1/jobs/{job}/restore.
type RestoreRequest struct {
	Sequence int  `json:"sequence,omitempty"` // 0: the newest
	Discard  bool `json:"discard,omitempty"`  // what the job has done since is not saved before
}

// Checkpoint saves a job's process state and answers what was saved.
func (c *Client) Checkpoint(ctx context.Context, id string, r CheckpointRequest) (Checkpoint, error) {
	return callWithin[Checkpoint](ctx, c, checkpointTime, http.MethodPost, jobPath(id)+"/checkpoints", r)
}

// checkpointTime bounds a checkpoint, a restore and a self-test: of much memory they take minutes.
const checkpointTime = 10 * time.Minute

// Checkpoints lists the checkpoints of a job, or all; with verify each is read whole.
func (c *Client) Checkpoints(ctx context.Context, job string, verify bool) ([]Checkpoint, error) {
	q := url.Values{}
	if job != "" {
		q.Set("job", job)
	}
	if verify {
		q.Set("verify", "true")
	}
	list, err := callWithin[CheckpointList](ctx, c, checkpointTime, http.MethodGet, "/v1/checkpoints?"+q.Encode(), nil)
	return list.Checkpoints, err
}

// RemoveCheckpoint removes a checkpoint that its job does not need.
func (c *Client) RemoveCheckpoint(ctx context.Context, job string, sequence int) error {
	q := url.Values{"job": {job}, "sequence": {strconv.Itoa(sequence)}}
	_, err := call[none](ctx, c, http.MethodDelete, "/v1/checkpoints?"+q.Encode(), nil)
	return err
}

// Restore ends a job's container and lets it go on from a checkpoint; it answers when that is under way.
func (c *Client) Restore(ctx context.Context, id string, r RestoreRequest) (Job, error) {
	return callWithin[Job](ctx, c, checkpointTime, http.MethodPost, jobPath(id)+"/restore", r)
}
