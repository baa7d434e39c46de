package sim

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"
)

func TestEveryShippedScenarioIsRead(t *testing.T) {
	t.Parallel()
	names := Shipped()
	for _, want := range []string{"case-i", "case-ii", "case-iii", "random-12", "random-20"} {
		if !strings.Contains(strings.Join(names, " ")+" ", want+" ") {
			t.Errorf("%s is not shipped", want)
		}
	}
	for _, name := range names {
		s, err := Ship(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if s.Name != name || s.About == "" {
			t.Errorf("%s calls itself %q, %q", name, s.Name, s.About)
		}
	}
	if _, err := Ship("none-such"); !errors.Is(err, ErrNotShipped) {
		t.Errorf("a scenario that is not there: %v", err)
	}
}

const small = `name: small
nodes: {count: 1, cpus: 2}
jobs:
  - {name: a, serial: 10, parallel: 10, deadline: 60s}
`

func TestAScenarioIsReadStrictly(t *testing.T) {
	t.Parallel()
	s, err := Read(strings.NewReader(small))
	if err != nil {
		t.Fatal(err)
	}
	want := Job{
		Name: "a", Framework: "chronos", Count: 1, Iterations: 1, Serial: 10, Parallel: 10, Threads: 2,
		Deadline: 60, Deviation: 0.2, CPUs: 1,
	}
	if diff := cmp.Diff(want, s.Jobs[0]); diff != "" {
		t.Error(diff)
	}
	if s.Period != 5 || s.MaxCPUs != 2 || s.MinCPUs != 0.1 || s.Enforcement != Quota || *s.Deployment.Declared != 0 {
		t.Errorf("defaults: %+v", s)
	}
	for _, tt := range []struct{ name, old, new, want string }{
		{"a key that is not known", "name: small", "name: small\nnoodles: 1", "noodles"},
		{"a time without unit", "60s", "60", "write it with its unit"},
		{"more than a node has", "deadline", "cpus: 3, deadline", "jobs[0].cpus"},
		{"no work", "serial: 10, parallel: 10", "serial: 0", "serial + parallel"},
		{"no node", "count: 1", "count: 0", "nodes.count"},
		{"no job", "jobs:\n  - {name: a, serial: 10, parallel: 10, deadline: 60s}", "", "the number of jobs"},
		{"a range the wrong way round", "name: small", "name: small\nnoise: {declared: [2, 1]}", "noise.declared"},
		{"a range of three", "name: small", "name: small\nnoise: {declared: [1, 2, 3]}", "two figures"},
		{"an unknown choice", "name: small", "name: small\niterations: often", "iterations"},
		{"two documents", "name: small", "name: other\n---\nname: small", "more than one document"},
		{"Marathon runs once", "deadline", "framework: marathon, iterations: 2, deadline", "jobs[0].iterations"},
		{"checkpoints without a pause", "name: small", "name: small\ncheckpoint: {every: 100ms}", "checkpoint.every"},
	} {
		_, err := Read(strings.NewReader(strings.Replace(small, tt.old, tt.new, 1)))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want one with %q", tt.name, err, tt.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(small)
	for _, name := range Shipped() {
		data, err := shipped.ReadFile("scenarios/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Read(strings.NewReader(text))
		if err != nil {
			return
		}
		out, err := yaml.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Read(strings.NewReader(string(out)))
		if err != nil {
			t.Fatalf("what was written is not read: %v\n%s", err, out)
		}
		if diff := cmp.Diff(s, again, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	})
}
