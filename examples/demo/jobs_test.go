package main

import (
	"encoding/json"
	"os"
	"regexp"
	"testing"
	"time"

	"qosctl/qos"
)

func TestTemplatesAndJobFilesAreValid(t *testing.T) {
	t.Parallel()
	p, err := makePlan(someSpeeds(8), 2, 2, 100*time.Second, 0)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, j := range p.jobs {
		template, err := templates.ReadFile("jobs/" + j.file + ".json")
		if err != nil {
			t.Fatal(err)
		}
		made, err := j.jobFile(dir)
		if err != nil {
			t.Fatal(err)
		}
		for what, data := range map[string]json.RawMessage{"template": template, "job file": made} {
			spec := parseSpec(t, data)
			if spec.Name != j.name() || spec.Framework != j.framework() || spec.Iterations != j.iterations {
				t.Errorf("%s %s: %s of %s, %d iterations", what, j.file, spec.Name, spec.Framework, spec.Iterations)
			}
			if spec.Container == nil || spec.Container.Image != image {
				t.Errorf("%s %s: container %+v", what, j.file, spec.Container)
			}
		}
		spec := parseSpec(t, made)
		if spec.CPUs != j.request || spec.QoS.Duration != round(j.duration) || spec.QoS.Deadline.After.Seconds() != round(j.seconds) {
			t.Errorf("%s: cpus %g, qos %+v; planned %+v", j.file, spec.CPUs, spec.QoS, j)
		}
		if v := spec.Container.Volumes; len(v) != 1 || v[0].HostPath != dir {
			t.Errorf("%s: volumes %+v, want one of %s", j.file, v, dir)
		}
		if j.framework() == qos.Marathon && spec.QoS.Executions != 1 {
			t.Errorf("%s: %d executions, want 1", j.file, spec.QoS.Executions)
		}
	}
}

func TestIDsAreUUIDs(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	if a, b := newID(), newID(); a == b || !form.MatchString(a) {
		t.Errorf("ids %s and %s", a, b)
	}
}

// parseSpec parses a job file as the agent does: a fault fails the test.
func parseSpec(t *testing.T, data []byte) qos.Spec {
	t.Helper()
	spec, _, err := qos.Parse(data, qos.ParseOptions{Now: time.Now()})
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	return spec
}

func TestJobFilesForNewcomersAreClean(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"chronos", "marathon"} {
		data, err := os.ReadFile("../jobs/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		_, warnings, err := qos.Parse(data, qos.ParseOptions{Now: time.Now()})
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v, warnings %v", name, err, warnings)
		}
	}
}
