package ociruntime

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEngineWithoutAnnotations: the restore file is named by the last such variable, and the bundle gets runc's annotation for CRIU's
// configuration; all else in it stays as it is.
func TestEngineWithoutAnnotations(t *testing.T) {
	t.Parallel()
	root := tree(t)
	file := func(name string) string { return filepath.Join(root, name+".restore") }
	text := `{"ociVersion":"1.0","linux":{"n":12345678901234567890},"process":{"env":["` + Env + `=` + file("somebody-elses") + `","A=1","` + Env + `=` + file("x") + `"]}}`
	dir := t.TempDir()
	config := filepath.Join(dir, configName)
	if err := os.WriteFile(config, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	if got, err := restoreFile(dir); err != nil || got != file("x") {
		t.Errorf("restore file %q, %v", got, err)
	}
	line := []string{"create", "--bundle", dir, "x"}
	for range 2 { // the second time changes nothing
		if got, err := rewrite(parse(line), Config{Root: root}, "runc"); err != nil || cmp.Diff(line, got) != "" {
			t.Errorf("%q, %v", got, err)
		}
	}
	var was, is map[string]json.RawMessage
	b, err := os.ReadFile(config)
	if err == nil {
		err = json.Unmarshal(b, &is)
	}
	if err != nil || json.Unmarshal([]byte(text), &was) != nil {
		t.Fatalf("%s: %v", b, err)
	}
	if got, want := string(is["annotations"]), `{"`+annotationCRIU+`":"`+filepath.Join(root, "x.conf")+`"}`; got != want {
		t.Errorf("annotations %s, want %s", got, want)
	}
	delete(is, "annotations")
	if d := cmp.Diff(was, is); d != "" {
		t.Error(d)
	}
	if info, err := os.Stat(config); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}

	if err := os.Chmod(root, 0o777); err != nil { // somebody else could put a CRIU configuration there, which names programs to run
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	if got, err := rewrite(parse(line), Config{Root: root}, "runc"); err == nil {
		t.Errorf("a directory that others can write is believed: %q", got)
	}
}

// TestEngineWithAnnotations: a bundle of an engine that knows annotations is not touched.
func TestEngineWithAnnotations(t *testing.T) {
	t.Parallel()
	root := tree(t)
	dir := bundle(t, filepath.Join(root, "x.restore"))
	before, err := os.ReadFile(filepath.Join(dir, configName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rewrite(parse([]string{"create", "--bundle", dir, "x"}), Config{Root: root}, "runc"); err != nil {
		t.Error(err)
	}
	after, err := os.ReadFile(filepath.Join(dir, configName))
	if d := cmp.Diff(string(before), string(after)); err != nil || d != "" {
		t.Errorf("%s (%v)", d, err)
	}
}
