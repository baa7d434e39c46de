package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	for _, tc := range []struct {
		name     string
		args     []string
		code     int
		out, err string
	}{
		{"as the thesis' job files call it", []string{"linpack_openmp", "60"}, 0, "n 60 threads ", ""},
		{"flags before and behind the size", []string{"linpack", "-threads", "2", "60", "-repeat", "3"}, 0, "n 60 threads 2 repeats 3 ", ""},
		{"at least so many CPU seconds", []string{"linpack", "50", "-cpu-seconds", "0.01"}, 0, "residual 0.", ""},
		{"size is no number", []string{"linpack", "big"}, 2, "", `size "big" is not a number`},
		{"size out of range", []string{"linpack", "0"}, 2, "", "size must be 1 to 32768 (got 0)"},
		{"two sizes", []string{"linpack", "10", "20"}, 2, "", "one size is enough"},
		{"no threads", []string{"linpack", "-threads", "0"}, 2, "", "threads and repeat must be > 0"},
		{"no such flag", []string{"linpack", "-speed"}, 2, "", "flag provided but not defined"},
		{"report can't be written", []string{"linpack", "-report", "/dev/null/x", "10"}, 1, "n 10", "open report"},
		{"help", []string{"linpack", "-h"}, 0, "", "Usage of linpack"},
	} {
		t.Run(tc.name, func(t *testing.T) { // one after the other: run sets GOMAXPROCS
			var out, errOut bytes.Buffer
			if code := run(tc.args, &out, &errOut); code != tc.code {
				t.Errorf("exit %d, want %d; stderr: %s", code, tc.code, &errOut)
			}
			if !strings.Contains(out.String(), tc.out) || !strings.Contains(errOut.String(), tc.err) {
				t.Errorf("stdout %q, want %q in it; stderr %q, want %q in it", &out, tc.out, &errOut, tc.err)
			}
		})
	}
}

func TestReportIsALineOfJSONForEachRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report")
	for range 2 {
		if code := run([]string{"linpack", "-report", path, "-repeat", "2", "-threads", "1", "64"}, &bytes.Buffer{}, os.Stderr); code != 0 {
			t.Fatalf("exit %d", code)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2: %s", len(lines), data)
	}
	for _, l := range lines {
		var r result
		if err := json.Unmarshal([]byte(l), &r); err != nil {
			t.Fatal(err)
		}
		if r.N != 64 || r.Repeats != 2 || r.Threads != 1 || r.CPU <= 0 || r.GFlops <= 0 {
			t.Errorf("report %+v", r)
		}
	}
}
