package main

import (
	"crypto/rand"
	"embed"
	"encoding/json"
	"fmt"
	"math"
)

// templates are job files that stand on their own; the demo puts in the figures that fit this machine.
//
//go:embed jobs/*.json
var templates embed.FS

// shared is where the jobs' containers see the directory that linpack reports to.
const shared = "/shared/"

// jobFile is the job file of j: its template with the command, cpus, duration and deadline of the plan, and a volume at dir.
func (j job) jobFile(dir string) (json.RawMessage, error) {
	data, err := templates.ReadFile("jobs/" + j.file + ".json")
	if err != nil {
		return nil, fmt.Errorf("read template: %w", err)
	}
	var f map[string]any
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("read template %s: %w", j.file, err)
	}
	command := "command"
	if j.iterations == 0 {
		command = "cmd"
	}
	f[command] = fmt.Sprintf("/linpack_openmp %d -threads %d -repeat %d -report %s%s.jsonl", j.n, j.threads, j.repeat, shared, j.file)
	f["cpus"] = j.request
	q := f["qos"].(map[string]any)
	q["duration"], q["deadline"] = round(j.duration), round(j.seconds)
	f["container"].(map[string]any)["volumes"] = []any{map[string]any{"containerPath": shared, "hostPath": dir, "mode": "RW"}}
	return json.MarshalIndent(f, "", "  ")
}

// round keeps two decimals.
func round(x float64) float64 { return math.Round(x*100) / 100 }

// newID makes a random UUID (version 4), a job's identity.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
