package qos

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// testNow is the time at which the files of testdata are read.
var testNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func testOptions() ParseOptions {
	return ParseOptions{Now: testNow, MinCPUs: 0.1, MaxCPUs: 2}
}

// golden compares a text with a file of testdata, or writes the file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("%v; write it with -update", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got, write anew with -update):\n%s", name, diff)
	}
}

func TestThesisFilesParseToTheirGoldens(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/thesis/*.json")
	if err != nil || len(files) != 9 {
		t.Fatalf("want nine files of the thesis, got %d, %v", len(files), err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			spec, warnings, err := Parse(data, testOptions())
			if err != nil {
				t.Fatal(err)
			}
			spec.Source = nil
			out, err := json.MarshalIndent(spec, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			text := string(out) + "\n"
			for _, w := range warnings {
				text += "warning: " + w.String() + "\n"
			}
			golden(t, strings.TrimSuffix(name, ".json")+".golden", text)
		})
	}
}

func problemsOf(t *testing.T, err error) Problems {
	t.Helper()
	problems, ok := errors.AsType[Problems](err)
	if !ok {
		t.Fatalf("error is %T, not Problems: %v", err, err)
	}
	return problems
}
