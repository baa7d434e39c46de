package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Each message that the page about troubleshooting quotes stands in the program: who searches for what he was told finds it.
func TestMessagesThatTroubleshootingQuotes(t *testing.T) {
	t.Parallel()
	var code strings.Builder
	err := fs.WalkDir(os.DirFS(".."), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "bin", "docs", "node_modules"}, d.Name()):
			return fs.SkipDir
		case !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(filepath.Join("..", name))
		code.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	others := []string{syscall.EADDRINUSE.Error(), "watchdog"} // the kernel's, systemd's
	quoted := regexp.MustCompile(`"([^"]+)"`)
	_, prose := readPage(t, "docs/troubleshooting.md").blocks(t)
	seen := 0
	for i, l := range prose {
		for _, m := range quoted.FindAllStringSubmatch(spanText.ReplaceAllString(l, ""), -1) {
			if seen++; !strings.Contains(code.String(), m[1]) && !slices.Contains(others, m[1]) {
				t.Errorf("docs/troubleshooting.md:%d: the program never says %q", i+1, m[1])
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d messages found", seen)
	}
}
