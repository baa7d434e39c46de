package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Level is how bad a finding is.
type Level string

// The levels, from good to bad. What was not looked at, as it is not configured or can't be seen from here, is skipped.
const (
	LevelOK      Level = "ok"
	LevelSkipped Level = "skipped"
	LevelWarning Level = "warning"
	LevelFault   Level = "fault"
)

// Doctor answers GET /v1/doctor: what an examination of the node has found. POST runs the self-test of its checkpoints anew before.
type Doctor struct {
	Driver string  `json:"driver"` // "": no checkpoints on this node
	Checks []Check `json:"checks"`
}

// Check is one finding.
type Check struct {
	Name   string  `json:"name"`            // of the check: docs/doctor.md lists them
	Of     string  `json:"of,omitempty"`    // what it was looked for at, where there can be several
	Level  Level   `json:"level,omitempty"` // "": an agent of before there were levels; OK says
	OK     bool    `json:"ok"`              // neither a warning nor a fault
	Text   string  `json:"text"`
	Cause  string  `json:"cause,omitempty"`
	Remedy string  `json:"remedy,omitempty"`
	Took   float64 `json:"took_seconds,omitempty"`
}

// Severity is the level, of findings of an older agent too.
func (c Check) Severity() Level {
	switch {
	case c.Level != "":
		return c.Level
	case c.OK:
		return LevelOK
	}
	return LevelWarning
}

// Worst is the level of the worst finding.
func (d Doctor) Worst() Level {
	worst := LevelOK
	for _, c := range d.Checks {
		switch c.Severity() {
		case LevelFault:
			return LevelFault
		case LevelWarning:
			worst = LevelWarning
		}
	}
	return worst
}

// Doctor examines the agent's node. The self-test of its checkpoints is not run: what the last one found is told.
func (c *Client) Doctor(ctx context.Context) (Doctor, error) {
	return call[Doctor](ctx, c, http.MethodGet, "/v1/doctor", nil)
}

// Examine runs the self-test anew, and examines the node.
func (c *Client) Examine(ctx context.Context) (Doctor, error) {
	return callWithin[Doctor](ctx, c, checkpointTime, http.MethodPost, "/v1/doctor", none{})
}

// DebugState answers GET /v1/debug/state, on the admin socket alone: what is of use to who looks for a fault in an agent.
type DebugState struct {
	At         time.Time      `json:"at"`
	Uptime     float64        `json:"uptime_seconds"`
	Goroutines int            `json:"goroutines"`
	Heap       uint64         `json:"heap_bytes"`
	GCs        uint32         `json:"gcs"`
	Store      StoreState     `json:"store"`
	Jobs       map[string]int `json:"jobs"` // by phase
}

// StoreState is how an agent's store is.
type StoreState struct {
	Bytes   int64          `json:"bytes"`
	Failing bool           `json:"failing,omitempty"` // it can't be written
	Rows    map[string]int `json:"rows"`              // by bucket
	Pages   int            `json:"free_pages"`
	Written int64          `json:"page_writes"`
}

// DebugState tells of the agent itself.
func (c *Client) DebugState(ctx context.Context) (DebugState, error) {
	return call[DebugState](ctx, c, http.MethodGet, "/v1/debug/state", nil)
}

// DebugConfig is the configuration that is in force, secrets masked, as YAML.
func (c *Client) DebugConfig(ctx context.Context) ([]byte, error) {
	return c.exchange(ctx, c.timeout, http.MethodGet, "/v1/debug/config", nil)
}

// Profile reads a profile of the agent: goroutine, heap, allocs, block, mutex or threadcreate, in Go's text form of that detail (1 or 2).
func (c *Client) Profile(ctx context.Context, name string, detail int) ([]byte, error) {
	return c.exchange(ctx, c.timeout, http.MethodGet, "/v1/debug/pprof/"+url.PathEscape(name)+"?debug="+strconv.Itoa(detail), nil)
}
