package agent

import (
	"encoding/json"
	"strings"
	"testing"

	"qosctl/agent/api"
)

func TestAJobWhoseRowNoPeerWouldTakeIsRefused(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	file := func(id, s string, most int) json.RawMessage {
		tail := `","cpus":0.1,"mem":32,"qos":{"duration":1,"desv_deadline":0.1,"deadline":60}}`
		head := `{"id":"` + id + `","cmd":"true #`
		return json.RawMessage(head + strings.Repeat(s, (most-len(head)-len(tail))/len(s)) + tail)
	}
	// The command has line separators of Unicode, which Go's encoder writes as six bytes each.
	_, _, err := n.agent.submit(t.Context(), api.SubmitRequest{ID: idA, File: file("/a", "\u2028", 1<<20)})
	if err == nil || !strings.Contains(err.Error(), "the job is too large: it takes") {
		t.Errorf("a job that is too large: %v", err)
	}
	if n.agent.jobs.get(idA) != nil || n.port.has("/a") {
		t.Error("it left something behind")
	}
	if _, _, err := n.agent.submit(t.Context(), api.SubmitRequest{ID: idB, File: file("/b", "<", 1<<20)}); err != nil {
		t.Errorf("a job of the largest size: %v", err)
	}
}
