package ckpt

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const testJob = "0000000a-0000-4000-8000-00000000000a"

func sampleManifest() Manifest {
	return Manifest{
		Version: formatVersion, Job: testJob, Name: "/a", Sequence: 3, Execution: 1, Incarnation: 2, CPU: 5, Counter: 4, Resident: 1 << 20, Bytes: 7,
		Container: Container{ID: testJob + "-1-2", Engine: "e", ImageID: "sha256:0", Mounts: []string{"/data"}, Cgroup: "/qosctl/a"},
		Files: []File{
			{Name: "images/a.img", Size: 3, SHA256: strings.Repeat("a", 64)},
			{Name: "layer.tar", Size: 4, SHA256: strings.Repeat("b", 64)},
		},
		Spec: json.RawMessage(`{"x":1}`),
	}
}

func TestManifestThatIsNotOursIsDamaged(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*Manifest){
		"other format":      func(m *Manifest) { m.Version = 2 },
		"no job":            func(m *Manifest) { m.Job = "../x" },
		"no sequence":       func(m *Manifest) { m.Sequence = 0 },
		"negative CPU":      func(m *Manifest) { m.CPU = -1 },
		"container path":    func(m *Manifest) { m.Container.ID = "a/b" },
		"file outside":      func(m *Manifest) { m.Files[0].Name = "images/../../x" },
		"absolute file":     func(m *Manifest) { m.Files[0].Name = "/etc/x" },
		"file of no kind":   func(m *Manifest) { m.Files[0].Name = "a" },
		"manifest in it":    func(m *Manifest) { m.Files[1].Name = manifestName },
		"out of order":      func(m *Manifest) { m.Files[0], m.Files[1] = m.Files[1], m.Files[0] },
		"twice":             func(m *Manifest) { m.Files[1] = m.Files[0] },
		"short digest":      func(m *Manifest) { m.Files[0].SHA256 = "aa" },
		"sizes don't add":   func(m *Manifest) { m.Bytes = 8 },
		"size overflows":    func(m *Manifest) { m.Files[0].Size = 1<<63 - 1 },
		"name is very long": func(m *Manifest) { m.Files[0].Name = "images/" + strings.Repeat("x", maxName) },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := sampleManifest()
			spoil(&m)
			b, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = parseManifest(b); !errors.Is(err, ErrDamaged) {
				t.Errorf("error %v", err)
			}
		})
	}
	if _, err := parseManifest(fmt.Appendf(nil, "%*s", maxManifest+1, "{}")); !errors.Is(err, ErrDamaged) {
		t.Errorf("too long: %v", err)
	}
}

func FuzzParseManifest(f *testing.F) {
	b, err := encode(sampleManifest())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseManifest(b)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("error %v is not ErrDamaged", err)
			}
			return
		}
		c, err := encode(m)
		if err != nil {
			return // spaces make it too long
		}
		n, err := parseManifest(c)
		if err != nil {
			t.Fatal(err)
		}
		if m.ref() != n.ref() || cmp.Diff(m.Files, n.Files) != "" {
			t.Fatalf("%+v became %+v", m, n)
		}
	})
}

func FuzzParsePlan(f *testing.F) {
	m := sampleManifest()
	m.Files = nil
	b, err := encode(plan{State: dumping, Manifest: m})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePlan(b)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("error %v is not ErrDamaged", err)
			}
			return
		}
		if p.Limit < 0 || p.Manifest.ref().check() != nil {
			t.Fatalf("taken: %+v", p)
		}
	})
}
