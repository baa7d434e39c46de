package node

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Fetch is a file that Mesos' fetcher brings into the sandbox before the task starts (CommandInfo.URI).
type Fetch struct {
	URI        string
	Executable bool
	OutputFile string // in the sandbox; "": the URI's last part
}

// fetch brings a task's files. Only this machine's are: what lies elsewhere, and archives, are left as they are, and said.
func (n *Node) fetch(t *task, who *identity) error {
	for i, f := range t.Fetch {
		from := strings.TrimPrefix(f.URI, "file://")
		if !filepath.IsAbs(from) {
			n.log.Warn("not fetched: only files of this machine are", "task", t.ID, "fetch", i) // an address may have a password in it
			continue
		}
		name := f.OutputFile
		if name == "" {
			name = filepath.Base(from)
		}
		if !filepath.IsLocal(name) {
			return fmt.Errorf("fetch %s: %q is no name in the sandbox", f.URI, name)
		}
		if err := copyFile(filepath.Join(t.sandbox, name), from, f.Executable, who); err != nil {
			return fmt.Errorf("fetch %s: %w", f.URI, err)
		}
	}
	return nil
}

func copyFile(to, from string, executable bool, who *identity) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	mode := os.FileMode(0o644)
	if executable {
		mode = 0o755
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err == nil && who != nil {
		err = os.Chown(to, int(who.uid), int(who.gid))
	}
	return err
}
