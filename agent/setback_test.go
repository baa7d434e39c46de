package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/qos"
)

// The end of a container that was restored where it was counts, though the clock was set back after that: it is not looked for again and
// again.
func TestAnEndAfterTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	gate := filepath.Join(t.TempDir(), "gate")
	n.submit(idA, `{"id":"/back","cmd":"while [ ! -e `+gate+` ]; do sleep 0.05; done","cpus":0.2,"mem":32,"qos":{"duration":100,"desv_deadline":0.1,"deadline":600,"executions":1}}`)
	s, _ := n.claim(idA, "t1")
	n.await(idA, "running", isRunning)
	j := n.agent.jobs.get(idA)
	j.mu.Lock()
	j.live.back = time.Now().Add(5 * time.Minute)
	j.mu.Unlock()
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, code := n.read(s, "t1"); code != 0 {
		t.Errorf("exit code %d", code)
	}
	n.await(idA, "completed", func(j api.Job) bool { return j.Phase == qos.PhaseCompleted })
}

// By how much a clock was set back since an order was given.
func TestByHowMuchAClockWasSetBack(t *testing.T) {
	t.Parallel()
	from := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		went, elapsed, want time.Duration
	}{
		"it went on":                  {10 * time.Second, 10 * time.Second, 0},
		"it was set back":             {10*time.Second - 5*time.Minute, 10 * time.Second, -5 * time.Minute},
		"it was set forward":          {10*time.Second + 5*time.Minute, 10 * time.Second, 0},
		"a little says nothing":       {9500 * time.Millisecond, 10 * time.Second, 0},
		"back, while little happened": {-time.Hour, 0, -time.Hour},
	} {
		if got := setBackBy(from, from.Add(c.went), c.elapsed); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	var none live
	if got := none.setBack(from); got != 0 {
		t.Errorf("without an order: %v", got)
	}
}
