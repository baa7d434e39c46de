package agent

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"qosctl/agent/api"
	"qosctl/container"
)

func TestReleaseGivesLentCPUsBack(t *testing.T) {
	t.Parallel()
	n := testNode(t, func(c *Config) { c.Control.Policy = "none" })
	n.submit(idA, `{"id":"/lender","cmd":"sleep 1000","cpus":0.5,"mem":32,"qos":{"duration":100,"desv_deadline":0.1,"deadline":600}}`)
	n.claim(idA, "t1")
	v := n.await(idA, "running", func(j api.Job) bool { return j.Allocation > 0 })
	id := n.agent.show(n.agent.jobs.get(idA), true).Container
	n.end()
	inForce := func() float64 {
		t.Helper()
		all, err := openEngines(n.cfg, "", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		info, err := all.process.Inspect(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return info.Limits.CPUs
	}
	all, err := openEngines(n.cfg, "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := all.process.Resize(t.Context(), id, container.Limits{CPUs: 0.2}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1, 0} { // a second time there is nothing to do
		if got, err := Release(t.Context(), n.cfg, slog.New(slog.DiscardHandler)); err != nil || got != want {
			t.Errorf("released %d, %v; want %d", got, err, want)
		}
	}
	if got := inForce(); !sameCPUs(got, v.Request) {
		t.Errorf("in force after release: %g CPUs, request %g", got, v.Request)
	}
}

// What only reads the store neither makes one nor sets a damaged one aside.
func TestReleaseLeavesTheStoreAsItIs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), storeFile)
	if rows, err := storedRows(path, slog.New(slog.DiscardHandler)); err != nil || len(rows) > 0 {
		t.Errorf("without a store: %d rows, %v", len(rows), err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a store was made: %v", err)
	}
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := storedRows(path, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("garbage was read")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "garbage" {
		t.Errorf("the damaged store was touched: %q, %v", b, err)
	}
}

func TestStoredRowsLeavesTornOnesOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _, err := openStore(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	good := row{}
	good.Record.Spec.ID = idA
	err = errors.Join(s.put(good), s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketJobs).Put([]byte(idB), []byte("torn")) }), s.close())
	if err != nil {
		t.Fatal(err)
	}
	rows, err := storedRows(filepath.Join(dir, storeFile), slog.New(slog.DiscardHandler))
	if err != nil || len(rows) != 1 || rows[0].Record.Spec.ID != idA {
		t.Errorf("%v, %v", rows, err)
	}
}
