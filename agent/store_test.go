package agent

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	bolt "go.etcd.io/bbolt"

	"qosctl/qos"
)

func sampleRow(id string) row {
	r := row{Record: qos.Record{Spec: qos.Spec{ID: id, Name: "/a", Framework: qos.Marathon, Source: []byte(`{}`)}, Status: qos.Status{Phase: qos.PhaseRunning, Epoch: 3}}}
	r.Record.Status.Execution = &qos.Execution{Index: 2}
	r.Record.Status.Execution.Account.StartIncarnation(qos.Entry{Node: "n", Own: 7})
	r.Record.Status.Steward.Secrets = [][]byte{hashSecret("s")}
	return r
}

func openTestStore(t *testing.T, dir string) (*store, []row) {
	t.Helper()
	s, rows, err := openStore(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s, rows
}

func TestStoreGivesBackWhatWasPut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, rows := openTestStore(t, dir)
	if len(rows) != 0 {
		t.Fatalf("a new store has %d rows", len(rows))
	}
	want := []row{sampleRow(idA), sampleRow(idB)}
	var m qos.Model
	m.Observe(10, 1, 9)
	if err := errors.Join(s.put(want...), s.mergeModels(map[string]qos.Model{string(modelKey(qos.Marathon, "/a")): m}), s.close()); err != nil {
		t.Fatal(err)
	}
	s, rows = openTestStore(t, dir)
	defer s.close()
	if d := cmp.Diff(want, rows, cmpopts.IgnoreUnexported(row{})); d != "" {
		t.Error(d)
	}
	if got := s.model(qos.Marathon, "/a"); got != m {
		t.Errorf("model %+v, want %+v", got, m)
	}
	if err := s.remove(idA); err != nil {
		t.Fatal(err)
	}
	if rows, _, err := s.rows(); err != nil || len(rows) != 1 {
		t.Errorf("after a removal: %d rows, %v", len(rows), err)
	}
}

func TestCorruptStoreIsKeptAsideAndBegunAnew(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, path string){
		"not a store": func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("this is no database"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"torn pages": func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := range b[:min(len(b), 16<<10)] {
				b[i] ^= 0x5a
			}
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s, _ := openTestStore(t, dir)
			if err := errors.Join(s.put(sampleRow(idA)), s.close()); err != nil {
				t.Fatal(err)
			}
			damage(t, filepath.Join(dir, "agent.db"))
			s, rows := openTestStore(t, dir)
			defer s.close()
			if len(rows) != 0 {
				t.Errorf("%d rows from a corrupt store", len(rows))
			}
			if kept, _ := filepath.Glob(filepath.Join(dir, "agent.db.corrupt-*")); len(kept) != 1 {
				t.Errorf("kept aside: %v", kept)
			}
		})
	}
}

func TestTornRowIsGivenUpAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := openTestStore(t, dir)
	if err := s.put(sampleRow(idA), sampleRow(idB)); err != nil {
		t.Fatal(err)
	}
	err := s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketJobs).Put([]byte(idB), []byte("0000{}")) })
	if err := errors.Join(err, s.close()); err != nil {
		t.Fatal(err)
	}
	s, rows := openTestStore(t, dir)
	defer s.close()
	if len(rows) != 1 || rows[0].Record.Spec.ID != idA {
		t.Errorf("kept %d rows", len(rows))
	}
	if kept, _ := filepath.Glob(filepath.Join(dir, "agent.db.corrupt-*")); len(kept) != 1 {
		t.Errorf("kept aside: %v", kept)
	}
}

func TestAnOlderRowNeverReplacesANewerOne(t *testing.T) {
	t.Parallel()
	s, _ := openTestStore(t, t.TempDir())
	defer s.close()
	older, newer := sampleRow(idA), sampleRow(idA)
	older.version, newer.version = 1, 2
	newer.Record.Status.Epoch = 9
	if err := errors.Join(s.put(newer), s.put(older)); err != nil {
		t.Fatal(err)
	}
	if rows, _, err := s.rows(); err != nil || rows[0].Record.Status.Epoch != 9 {
		t.Errorf("%+v, %v", rows, err)
	}
	if err := errors.Join(s.remove(idA), s.put(newer)); err != nil {
		t.Fatal(err)
	}
	if rows, _, err := s.rows(); err != nil || len(rows) != 0 {
		t.Errorf("a removed row is back: %+v, %v", rows, err)
	}
}

func TestSecondAgentIsRefusedTheStore(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits 5 s for the lock")
	}
	dir := t.TempDir()
	s, _ := openTestStore(t, dir)
	defer s.close()
	if _, _, err := openStore(dir, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("two agents opened one store")
	}
}
