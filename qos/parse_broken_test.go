package qos

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBrokenFilesAreEachRefusedInTheirOwnWords holds each file of testdata/broken to one problem, which no other file has.
func TestBrokenFilesAreEachRefusedInTheirOwnWords(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/broken/*.json")
	if err != nil || len(files) < 50 {
		t.Fatalf("want fifty broken files, got %d, %v", len(files), err)
	}
	var all strings.Builder
	seen := map[string]string{}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		opts := testOptions()
		opts.File = filepath.Base(name)
		_, _, err = Parse(data, opts)
		if err == nil {
			t.Errorf("%s is not refused", name)
			continue
		}
		all.WriteString(err.Error() + "\n")
		problems := problemsOf(t, err)
		if len(problems) != 1 {
			t.Errorf("%s has %d problems, want 1:\n%v", name, len(problems), err)
		}
		p := problems[0]
		if p.Remedy == "" {
			t.Errorf("%s has no remedy: %v", name, p)
		}
		key := p.Path + " " + p.Text
		if first, twice := seen[key]; twice {
			t.Errorf("%s is refused in the same words as %s: %s", name, first, key)
		}
		seen[key] = name
	}
	golden(t, "testdata/broken.golden", all.String())
}

func TestHugeFilesAreRefusedByTheirSize(t *testing.T) {
	t.Parallel()
	const size = 100 << 20
	r := &countingReader{left: size}
	_, _, err := ParseReader(r, ParseOptions{})
	if err == nil || !strings.Contains(err.Error(), "is larger than 1024 KiB") {
		t.Errorf("100 MB are refused with %v", err)
	}
	if read := size - r.left; read > MaxFileSize+1 {
		t.Errorf("%d bytes were read of a file that may have %d", read, MaxFileSize)
	}
}

// countingReader gives spaces, and counts down.
type countingReader struct{ left int }

func (r *countingReader) Read(p []byte) (int, error) {
	n := min(len(p), r.left)
	for i := range n {
		p[i] = ' '
	}
	r.left -= n
	return n, nil
}

func TestDeepFilesAreRefusedBeforeAnythingFollowsThem(t *testing.T) {
	t.Parallel()
	for name, data := range map[string][]byte{
		"lists":          bytes.Repeat([]byte("["), 100_000),
		"closed lists":   append(bytes.Repeat([]byte("["), 100_000), bytes.Repeat([]byte("]"), 100_000)...),
		"objects":        append([]byte(`{"id":"/a","qos":`), bytes.Repeat([]byte(`{"a":`), 100_000)...),
		"one too many":   append(bytes.Repeat([]byte("["), MaxDepth+1), bytes.Repeat([]byte("]"), MaxDepth+1)...),
		"after a string": append([]byte(`{"a\"[":"]]\\","b":`), bytes.Repeat([]byte("["), MaxDepth)...),
	} {
		_, _, err := Parse(data, ParseOptions{})
		if err == nil || !strings.Contains(err.Error(), "is nested more than 64 deep") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	quoted := `{"id":"/a","cmd":"` + strings.Repeat("[", 1000) + `","qos":{"duration":1,"desv_deadline":0,"deadline":1}}`
	if _, _, err := Parse([]byte(quoted), ParseOptions{}); err != nil {
		t.Errorf("brackets within a text count as depth: %v", err)
	}
}
