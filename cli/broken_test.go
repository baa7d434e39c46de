package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestBrokenJobFilesGetPointingErrors holds what validate says of each broken file against testdata/broken.golden: all different,
// each with file, line and remedy.
func TestBrokenJobFilesGetPointingErrors(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../qos/testdata/broken/*")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d broken files, %v", len(files), err)
	}
	var all strings.Builder
	said := make(map[string]string)
	for _, file := range files {
		var out, stderr bytes.Buffer
		a := &app{in: strings.NewReader(""), out: &out, err: &stderr}
		if code := a.main(t.Context(), []string{"validate", file}); code != exitInvalid || stderr.Len() > 0 {
			t.Errorf("%s: exit code %d\n%s", file, code, stderr.String())
		}
		name := filepath.Base(file)
		text := strings.ReplaceAll(out.String(), file, name)
		all.WriteString(text)
		if !strings.HasPrefix(text, name+":") {
			t.Errorf("%s: says %q", name, text)
		}
		same := strings.ReplaceAll(text, name, "")
		if other, ok := said[same]; ok {
			t.Errorf("%s and %s get the same error: %s", name, other, same)
		}
		said[same] = name
	}
	const golden = "testdata/broken.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(all.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), all.String()); diff != "" {
		t.Error(diff)
	}
}
