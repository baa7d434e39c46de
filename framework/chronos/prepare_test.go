package chronos

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/framework"
	"qosctl/qos"
)

var update = flag.Bool("update", false, "write the golden files anew")

func parse(t *testing.T, data []byte) qos.Spec {
	t.Helper()
	spec, _, err := qos.Parse(data, qos.ParseOptions{Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)})
	if err != nil {
		t.Fatal(err)
	}
	spec.ID = "1b4e28ba-2fa1-41d2-883f-0016d3cca427"
	spec.Submitted = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return spec
}

func options() PrepareOptions {
	return PrepareOptions{Command: "/usr/bin/qosctl", Secret: "s3cr3t", Socket: "/run/qosctl/standin.sock", Constraint: "qosctl"}
}

func TestPrepareOfTheThesisJobs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../qos/testdata/thesis/chronos-*.json")
	if err != nil || len(files) != 6 {
		t.Fatalf("%d job files of the thesis (%v), want 6", len(files), err)
	}
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			spec := parse(t, data)
			body, warnings, err := Prepare(spec, options())
			if err != nil || len(warnings) > 0 {
				t.Fatalf("error %v, warnings %v", err, warnings)
			}
			var job Job
			if err := json.Unmarshal(body, &job); err != nil || job.JobID != spec.ID {
				t.Fatalf("job %+v, error %v", job, err)
			}
			got, err := framework.DecodeSpec(job.Env[framework.EnvSpec])
			spec.Source = nil
			if diff := cmp.Diff(spec, got); err != nil || diff != "" {
				t.Errorf("spec in the environment, error %v (-sent +got):\n%s", err, diff)
			}
			var out bytes.Buffer
			body = bytes.ReplaceAll(body, []byte(job.Env[framework.EnvSpec]), []byte("(spec)"))
			if err := json.Indent(&out, body, "", "  "); err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", name+".golden"), append(out.Bytes(), '\n'))
		})
	}
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s differs (-want +got), -update writes it anew:\n%s", path, cmp.Diff(string(want), string(got)))
	}
}

func prepare(t *testing.T, file string) map[string]any {
	t.Helper()
	body, _, err := Prepare(parse(t, []byte(file)), options())
	if err != nil {
		t.Fatal(err)
	}
	var job map[string]any
	if err := json.Unmarshal(body, &job); err != nil {
		t.Fatal(err)
	}
	return job
}

func TestPrepareForIterationsByChronos(t *testing.T) {
	t.Parallel()
	job := prepare(t, `{"name":"j","command":"./run <in","schedule":"R4/2026-02-01T00:00:00Z/PT5M","cpus":"0.5","mem":"64","retries":3,"concurrent":true,
		"async":"false","epsilon":"PT5M","successCount":2,"highPriority":"true","constraints":[["rack","EQUALS","r1"]],
		"environmentVariables":[{"name":"A","value":"b"}],
		"container":{"type":"docker","image":"i","forcePullImage":"true","volumes":[{"containerPath":"/c","hostPath":"/h","mode":"rw"}],"parameters":[{"key":"label","value":"x=y"}]},
		"qos":{"duration":10,"desv_deadline":0.1,"deadline":2000,"iterations_by":"chronos"}}`)
	want := map[string]any{
		"name": "j", "command": "./run <in", "schedule": Schedule, "cpus": 0.5, "mem": 64.0, "retries": 0.0, "concurrent": false, "highPriority": true,
		"constraints": []any{[]any{"rack", "EQUALS", "r1"}, []any{"qosctl", "LIKE", ".+"}},
		"environmentVariables": []any{
			map[string]any{"name": "A", "value": "b"}, map[string]any{"name": "QOSCTL_JOB", "value": "1b4e28ba-2fa1-41d2-883f-0016d3cca427"},
		},
		"container": map[string]any{
			"type": "docker", "image": "i", "forcePullImage": true, "volumes": []any{map[string]any{"containerPath": "/c", "hostPath": "/h", "mode": "rw"}},
			"parameters": []any{
				map[string]any{"key": "label", "value": "x=y"}, map[string]any{"key": "label", "value": "qosctl.job=1b4e28ba-2fa1-41d2-883f-0016d3cca427"},
			},
		},
	}
	if diff := cmp.Diff(want, job); diff != "" {
		t.Errorf("job (-want +got):\n%s", diff)
	}
}

func TestPrepareRefuses(t *testing.T) {
	t.Parallel()
	good := parse(t, []byte(`{"name":"j","command":"true","schedule":"R1//PT5M","qos":{"duration":1,"desv_deadline":0.1,"deadline":2}}`))
	tests := []struct {
		name   string
		change func(*qos.Spec, *PrepareOptions)
	}{
		{"a job for Marathon", func(s *qos.Spec, _ *PrepareOptions) { s.Framework = qos.Marathon }},
		{"no secret", func(_ *qos.Spec, o *PrepareOptions) { o.Secret = "" }},
		{"no socket", func(_ *qos.Spec, o *PrepareOptions) { o.Socket = "" }},
		{"a source that is no JSON", func(s *qos.Spec, _ *PrepareOptions) { s.Source = nil }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			spec, o := good, options()
			tt.change(&spec, &o)
			if body, _, err := Prepare(spec, o); err == nil {
				t.Errorf("taken: %s", body)
			}
		})
	}
}
