package main

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qosctl/cli"
)

func TestEveryCommandHasAManualPage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := generate(dir, "1.2.3", "1700000000"); err != nil {
		t.Fatal(err)
	}
	for _, c := range cli.Commands().Commands() {
		file := filepath.Join(dir, "man", "qosctl-"+c.Name()+".1.gz")
		_, err := os.Stat(file)
		if is := err == nil; is != c.IsAvailableCommand() {
			t.Errorf("%s: there is a page: %t", file, is)
		}
	}
	f, err := os.Open(filepath.Join(dir, "man", "qosctl-submit.1.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`.TH "QOSCTL-SUBMIT" "1" "Nov 2023" "1.2.3"`, "--follow", ".SH EXAMPLE"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("qosctl-submit(1) lacks %q", want)
		}
	}
	for _, name := range []string{"qosctl.bash", "_qosctl", "qosctl.fish"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.Contains(string(b), "qosctl") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWithoutADateNothingIsWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range [][2]string{{dir, ""}, {dir, "yesterday"}, {"", "1700000000"}} {
		if err := generate(c[0], "", c[1]); err == nil {
			t.Errorf("out %q, epoch %q: no error", c[0], c[1])
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("written: %v, %v", files, err)
	}
}
