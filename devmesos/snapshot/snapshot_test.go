package snapshot

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.json")
	got := map[string]int{"kept": 1}
	if aside, err := Load(path, &got); err != nil || aside != "" || got["kept"] != 1 {
		t.Errorf("no file: %q %v %v", aside, err, got)
	}
	for n := range 3 {
		if err := Save(path, map[string]int{"n": n}); err != nil {
			t.Fatal(err)
		}
	}
	got = nil
	if _, err := Load(path, &got); err != nil || got["n"] != 2 {
		t.Errorf("%v %v", got, err)
	}
	if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
		t.Errorf("files %v are left", files)
	}
}

func TestFailedSaveLeavesTheOldValue(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.json")
	if err := Save(path, 1); err != nil {
		t.Fatal(err)
	}
	if err := Save(path, func() {}); err == nil {
		t.Error("a function was saved")
	}
	if err := Save(filepath.Join(path, "below"), 1); err == nil {
		t.Error("saved below a file")
	}
	var got int
	if _, err := Load(path, &got); err != nil || got != 1 {
		t.Errorf("%d %v", got, err)
	}
}

func TestCorruptFileIsKeptAside(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.json")
	if err := os.WriteFile(path, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	var got map[string]int
	aside, err := Load(path, &got)
	if err != nil || aside == "" {
		t.Fatal(aside, err)
	}
	if b, err := os.ReadFile(aside); err != nil || string(b) != "{" {
		t.Errorf("%q %v", b, err)
	}
	if _, err := Load(filepath.Dir(path), &got); err == nil {
		t.Error("a directory was loaded")
	}
}
