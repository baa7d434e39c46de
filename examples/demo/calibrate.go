package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"qosctl/qos"
)

const (
	calibrations = 5   // of each size and number of threads; the fastest counts
	calibrateFor = 0.3 // seconds of each, about
)

// usage is a line of linpack's own report.
type usage struct {
	N       int     `json:"n"`
	Repeats int     `json:"repeats"`
	CPU     float64 `json:"cpu_seconds"`
}

// calibrate measures the real program: CPU seconds and wall time of one factorisation of each size, on one thread and on all
// that jobs will have, and fits T(c) = a + b/c to them.
func calibrate(ctx context.Context, linpack, dir string, threads int) ([]speed, error) {
	var all []speed
	for _, n := range sizes() {
		one, err := fastest(ctx, linpack, dir, n, 1)
		if err != nil {
			return nil, err
		}
		many := one
		if threads > 1 {
			if many, err = fastest(ctx, linpack, dir, n, threads); err != nil {
				return nil, err
			}
		}
		all = append(all, speed{n: n, model: model(one, many, threads)})
	}
	return all, nil
}

// sizes of the matrices, each once.
func sizes() []int {
	var all []int
	seen := map[int]bool{}
	for _, t := range thesis {
		if n := t.matrix / shrink; !seen[n] {
			seen[n], all = true, append(all, n)
		}
	}
	return all
}

// cost of one factorisation.
type cost struct{ wall, cpu float64 }

// model is T(c) = A + B/c through what one thread and several took.
func model(one, many cost, threads int) qos.Model {
	m := qos.Model{A: one.wall, Work: math.Max(one.cpu, many.cpu), N: 2}
	if threads > 1 {
		m.B = math.Max(0, (one.wall-many.wall)/(1-1/float64(threads)))
		m.B = math.Min(m.B, one.wall)
		m.A = one.wall - m.B
	}
	return m
}

func fastest(ctx context.Context, linpack, dir string, n, threads int) (cost, error) {
	first, err := measure(ctx, linpack, dir, n, threads, 1)
	if err != nil {
		return cost{}, err
	}
	repeat := max(1, int(calibrateFor/first.wall))
	best := cost{wall: math.Inf(1), cpu: math.Inf(1)}
	for range calibrations {
		c, err := measure(ctx, linpack, dir, n, threads, repeat)
		if err != nil {
			return cost{}, err
		}
		best.wall, best.cpu = math.Min(best.wall, c.wall), math.Min(best.cpu, c.cpu)
	}
	return best, nil
}

// measure runs linpack once and returns what one of its factorisations cost.
func measure(ctx context.Context, linpack, dir string, n, threads, repeat int) (cost, error) {
	report := filepath.Join(dir, "calibration.jsonl")
	if err := os.RemoveAll(report); err != nil {
		return cost{}, fmt.Errorf("remove the last calibration: %w", err)
	}
	start := time.Now()
	c := exec.CommandContext(ctx, linpack, "-threads", strconv.Itoa(threads), "-repeat", strconv.Itoa(repeat), "-report", report, strconv.Itoa(n))
	if out, err := c.CombinedOutput(); err != nil {
		return cost{}, fmt.Errorf("calibrate linpack %d: %w: %s", n, err, bytes.TrimSpace(out))
	}
	wall := time.Since(start).Seconds()
	all, err := readUsage(report)
	if err != nil {
		return cost{}, err
	}
	if len(all) != 1 || all[0].Repeats != repeat {
		return cost{}, fmt.Errorf("calibrate linpack %d: report has %d lines, want 1 of %d repeats", n, len(all), repeat)
	}
	k := float64(repeat)
	return cost{wall: wall / k, cpu: all[0].CPU / k}, nil
}

// readUsage reads what runs of linpack reported. No file: none has ended.
func readUsage(path string) ([]usage, error) {
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read linpack's report: %w", err)
	}
	var all []usage
	for line := range bytes.Lines(data) {
		var u usage
		if err := json.Unmarshal(line, &u); err != nil {
			return nil, fmt.Errorf("read linpack's report %s: %w", path, err)
		}
		all = append(all, u)
	}
	return all, nil
}
