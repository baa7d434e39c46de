package qos

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzParse holds that no file makes the parser panic, that what is refused is refused in words, and that the Source of what is
// taken gives the same Spec again.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/thesis/*.json", "testdata/broken/*.json"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range files {
			data, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Add([]byte(`{"id":"/a/b","args":["x"],"networks":[{"mode":"container/bridge"}],"container":{"type":"MESOS","docker":{"image":"i"},"portMappings":[{}]},` +
		`"qos":{"duration":"1","desv_deadline":0,"deadline":"1m","elasticity":"inplace"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		spec, warnings, err := Parse(data, testOptions())
		for _, w := range warnings {
			if w.Text == "" || w.Path == "" {
				t.Fatalf("a warning without words or path: %+v", w)
			}
		}
		if err != nil {
			problems, ok := errors.AsType[Problems](err)
			if !ok || len(problems) == 0 {
				t.Fatalf("not problems: %T %v", err, err)
			}
			for _, p := range problems {
				if p.Text == "" || p.Path == "" {
					t.Fatalf("a problem without words or path: %+v", p)
				}
			}
			return
		}
		again, _, err := Parse(spec.Source, testOptions())
		if err != nil {
			t.Fatalf("its source is refused: %v", err)
		}
		if diff := cmp.Diff(spec, again); diff != "" {
			t.Fatalf("its source gives another spec (-first +again):\n%s", diff)
		}
	})
}
