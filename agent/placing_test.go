package agent

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAnAppIsBoundToHostsBesideItsOwnConstraints(t *testing.T) {
	t.Parallel()
	p := &marathonPort{}
	for body, want := range map[string]string{
		`{"id":"/a","cpus":0.1}`:                             `{"constraints":[["hostname","LIKE","n1\\.x|n2"]],"cpus":0.1,"id":"/a"}`,
		`{"id":"/a","constraints":[["qosctl","LIKE",".+"]]}`: `{"constraints":[["qosctl","LIKE",".+"],["hostname","LIKE","n1\\.x|n2"]],"id":"/a"}`,
	} {
		got, err := p.Bind(json.RawMessage(body), []string{"n1.x", "n2"})
		if err != nil {
			t.Error(err)
		}
		if d := cmp.Diff(want, string(got)); d != "" {
			t.Error(d)
		}
	}
	if _, err := p.Bind(json.RawMessage(`{"constraints":3}`), []string{"n"}); err == nil {
		t.Error("constraints that are none are not refused")
	}
}
