package agent

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"qosctl/agent/api"
	"qosctl/qos"
)

// TestFullDisk fills the disk below the store while a job runs: the job runs on, what can't be written down is refused and leaves
// nothing behind, and what happened meanwhile is written when there is room again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("needs to mount a small file system (run as root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	n := testNode(t, func(c *Config) { c.DataDir = filepath.Join(dir, "data") })
	n.submit(idA, `{"id":"/runs","cmd":"while [ ! -e `+dir+`/stop ]; do :; done","cpus":0.2,"mem":32,"qos":{"duration":100,"desv_deadline":0.1,"deadline":600,"executions":1}}`)
	s, _ := n.claim(idA, "t1")
	n.await(idA, "running", func(j api.Job) bool { return j.Consumed > 0 })

	fill(t, filepath.Join(dir, "filler"))
	// Large, as a small row finds room in pages that the store has already.
	large := `{"id":"/refused","cmd":"true","cpus":0.1,"mem":32,"env":{"X":"` + strings.Repeat("x", 700<<10) + `"},"qos":{"duration":1,"desv_deadline":0.1,"deadline":60}}`
	_, err := n.client().Submit(t.Context(), api.SubmitRequest{ID: idB, File: json.RawMessage(large)})
	if err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("submission on a full disk: %v", err)
	}
	if n.agent.jobs.get(idB) != nil || n.port.has("/refused") {
		t.Error("the refused submission left a job behind")
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, "filler")), os.WriteFile(filepath.Join(dir, "stop"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, _, code := n.read(s, "t1"); code != 0 {
		t.Errorf("exit code %d", code)
	}
	n.await(idA, "completed", inPhase(qos.PhaseCompleted))
	n.end()
	n.begin()
	if v := n.await(idA, "completed after a restart", inPhase(qos.PhaseCompleted)); v.Tally.Succeeded != 1 {
		t.Errorf("after a restart: %+v", v.Tally)
	}
}

// fill writes to a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
}
