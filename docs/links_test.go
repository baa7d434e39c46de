package docs_test

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var link = regexp.MustCompile(`\]\(([^()\s]+)\)`)

// Each relative link leads to a file that is there, and to a heading that it has.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	all, seen := pages(t), 0
	anchors := map[string]map[string]bool{}
	for _, p := range all {
		anchors[p.name] = p.anchors(t)
	}
	for _, p := range all {
		_, prose := p.blocks(t)
		for i, l := range prose {
			for _, m := range link.FindAllStringSubmatch(spanText.ReplaceAllString(l, ""), -1) {
				if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
					continue
				}
				seen++
				file, anchor, _ := strings.Cut(m[1], "#")
				target := p.name
				if file != "" {
					target = path.Join(path.Dir(p.name), file)
				}
				if _, err := os.Stat(filepath.Join("..", target)); err != nil {
					t.Errorf("%s:%d: %s: %v", p.name, i+1, m[1], err)
				} else if anchor != "" && !anchors[target][anchor] {
					t.Errorf("%s:%d: %s has no heading #%s", p.name, i+1, target, anchor)
				}
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d links found", seen)
	}
}

// Whoever begins at the README finds every page.
func TestTheReadmeLinksToAllPages(t *testing.T) {
	t.Parallel()
	readme := strings.Join(readPage(t, "README.md").lines, "\n")
	for _, p := range pages(t) {
		if dir := path.Dir(p.name); (dir == "docs" || dir == ".") && p.name != "README.md" && !strings.Contains(readme, "]("+p.name+")") {
			t.Errorf("README.md does not link to %s", p.name)
		}
	}
}

// anchors are the names that headings have, as GitHub makes them.
func (p page) anchors(t *testing.T) map[string]bool {
	t.Helper()
	_, prose := p.blocks(t)
	found := map[string]bool{}
	for _, l := range prose {
		hashes, text, ok := strings.Cut(l, " ")
		if !ok || hashes == "" || strings.Trim(hashes, "#") != "" {
			continue
		}
		name := slug(text)
		for n, base := 1, name; found[name]; n++ {
			name = fmt.Sprintf("%s-%d", base, n)
		}
		found[name] = true
	}
	return found
}

func slug(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, strings.TrimSpace(heading))
}
