// Command generate writes what packages have beside the program and is made of its commands: manual pages, and completions for the shells
// that have a place for them. The same commands and the same date give the same bytes.
package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"qosctl/cli"
)

func main() {
	out := flag.String("out", "", "directory that is written to")
	version := flag.String("version", "", "of the program, for the pages' footers")
	flag.Parse()
	if err := generate(*out, *version, os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// generate writes everything below out; epoch is the date of the pages, in seconds.
func generate(out, version, epoch string) error {
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || out == "" {
		return errors.New("needs -out, and SOURCE_DATE_EPOCH in the environment, in seconds")
	}
	root := cli.Commands()
	root.DisableAutoGenTag = true // it would say when it was made
	date := time.Unix(seconds, 0).UTC()
	if err := pages(root, filepath.Join(out, "man"), &doc.GenManHeader{Section: "1", Date: &date, Source: cmp.Or(version, "qosctl"), Manual: "qosctl"}); err != nil {
		return err
	}
	return completions(root, out)
}

// pages writes the manual pages, compressed as packages have them.
func pages(root *cobra.Command, dir string, header *doc.GenManHeader) error {
	plain, err := os.MkdirTemp("", "qosctl-man")
	if err != nil {
		return err
	}
	defer os.RemoveAll(plain) //nolint:errcheck // a temporary directory
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := doc.GenManTree(root, header, plain); err != nil {
		return fmt.Errorf("manual pages: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(plain, "*.1"))
	if err != nil {
		return err
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if err := write(filepath.Join(dir, filepath.Base(f)+".gz"), text); err != nil {
			return err
		}
	}
	return nil
}

// write compresses without a name or a time in the header.
func write(file string, text []byte) error {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(text); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

func completions(root *cobra.Command, out string) error {
	return errors.Join(
		root.GenBashCompletionFileV2(filepath.Join(out, "qosctl.bash"), true),
		root.GenZshCompletionFile(filepath.Join(out, "_qosctl")),
		root.GenFishCompletionFile(filepath.Join(out, "qosctl.fish"), true),
	)
}
