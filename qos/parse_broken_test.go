package qos

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
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

func TestHostileFilesOfTheLargestSizeAreReadInBoundedTimeAndWords(t *testing.T) {
	t.Parallel()
	const most = MaxFileSize - 64
	fill := func(head, unit, tail string) []byte {
		var b strings.Builder
		b.WriteString(head)
		for i := 0; b.Len() < most-len(tail)-len(unit)-8; i++ {
			b.WriteString(strings.ReplaceAll(unit, "#", strconv.Itoa(i)))
		}
		b.WriteString(tail)
		return []byte(b.String())
	}
	deep := strings.Repeat(`{"a-key-of-a-good-length-that-makes-paths-grow":`, MaxDepth-4)
	for name, data := range map[string][]byte{
		"unknown fields":       fill(`{"id":"a","cmd":"ls"`, `,"k#":1`, `}`),
		"unknown keys of qos":  fill(`{"id":"a","cmd":"ls","qos":{"x":1`, `,"dur#":1`, `}}`),
		"the same key again":   fill(`{"id":"a"`, `,"cmd":1`, `}`),
		"texts that are none":  fill(`{"id":"a","args":[1`, `,1`, `]}`),
		"values below many":    fill(`{"id":"a","cmd":"ls","labels":`+deep+`[1`, `,1`, `]`+strings.Repeat("}", MaxDepth-4)+`}`),
		"lines without end":    fill(`{"id":"a","env":{"x":1`, ",\n\"e#\":1", `}}`),
		"a number without end": fill(`{"id":"a","cpus":1`, `0`, `}`),
		"a text without end":   fill(`{"id":"a","cpus":"1`, `0`, `"}`),
		"constraints":          fill(`{"id":"a","cmd":"ls","constraints":[1`, `,["a","LIKE","(("]`, `]}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			_, warnings, err := Parse(data, testOptions())
			if took := time.Since(began); took > time.Minute { // what grows with the square of the size takes many; a race detector on a busy machine, 14 s
				t.Errorf("it took %v", took)
			}
			if problems := problemsOf(t, err); len(problems) > maxFindings+1 || len(warnings) > maxFindings+1 || len(err.Error()) > 100<<10 {
				t.Errorf("%d problems, %d warnings, %d bytes of words", len(problems), len(warnings), len(err.Error()))
			}
		})
	}
}
