// Package docs_test holds the pages to what they speak of: links, commands, keys, names of tests, metrics and alerts. What is generated of a page
// is written anew with `go test ./docs -update`.
package docs_test

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what is generated of the pages anew")

// page is a document.
type page struct {
	name  string // from the root of the repository, with slashes: docs/jobs.md
	lines []string
}

// pages are all documents of the repository.
func pages(t *testing.T) []page {
	t.Helper()
	var all []page
	err := fs.WalkDir(os.DirFS(".."), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "bin", "node_modules", "testdata"}, d.Name()):
			return fs.SkipDir
		case filepath.Ext(name) != ".md" || !d.Type().IsRegular():
			return nil
		}
		all = append(all, readPage(t, name))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("only %d pages found", len(all))
	}
	return all
}

func readPage(t *testing.T, name string) page {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	return page{name, strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")}
}

// block is a fenced block.
type block struct {
	line     int    // of its first line of text, from 1
	language string // console, yaml; "": none
	mark     string // of an HTML comment right above it: "not run: needs a disk"
	lines    []string
}

var (
	fenceLine   = regexp.MustCompile("^( *)```([a-z]*)$")
	commentLine = regexp.MustCompile(`^ *<!-- (.*) -->$`)
)

// blocks are the fenced blocks of a page; prose is the rest of it, line by line, with empty lines where the blocks were.
func (p page) blocks(t *testing.T) (list []block, prose []string) {
	t.Helper()
	var in *block
	indent := ""
	for i, l := range p.lines {
		m := fenceLine.FindStringSubmatch(l)
		switch {
		case in == nil && m == nil:
			prose = append(prose, l)
			continue
		case in == nil:
			in, indent = &block{line: i + 2, language: m[2]}, m[1]
			if c := commentLine.FindStringSubmatch(p.lines[max(i-1, 0)]); c != nil {
				in.mark = c[1]
			}
		case m != nil && m[2] == "":
			list = append(list, *in)
			in = nil
		default:
			in.lines = append(in.lines, strings.TrimPrefix(l, indent))
		}
		prose = append(prose, "")
	}
	if in != nil {
		t.Errorf("%s:%d: the block has no end", p.name, in.line)
	}
	return list, prose
}

var spanText = regexp.MustCompile("`([^`]+)`")

// spans calls f for each `span` of a page's prose.
func (p page) spans(t *testing.T, f func(line int, text string)) {
	t.Helper()
	_, prose := p.blocks(t)
	for i, l := range prose {
		for _, m := range spanText.FindAllStringSubmatch(l, -1) {
			f(i+1, m[1])
		}
	}
}
