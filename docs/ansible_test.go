package docs_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// play is the one of docs/installing.md.
func play(t *testing.T) string {
	t.Helper()
	for _, p := range pages(t) {
		blocks, _ := p.blocks(t)
		for _, b := range blocks {
			if b.mark == "ansible" {
				return strings.Join(b.lines, "\n") + "\n"
			}
		}
	}
	t.Fatal("no page has a play")
	return ""
}

// Ansible can read the play, and knows its modules and their place, where it is installed.
func TestThePlayIsOne(t *testing.T) {
	t.Parallel()
	text := play(t)
	tool, err := exec.LookPath("ansible-playbook")
	if err != nil {
		t.Skip("SKIPPED, the play of docs/installing.md is not looked at: ansible-playbook (ansible-core) is not installed")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "play.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	check := func() (string, error) {
		cmd := exec.CommandContext(ctx, tool, "--syntax-check", "--inventory", "mesos_agents,", file)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+dir, "ANSIBLE_NOCOLOR=1", "ANSIBLE_HOME="+dir)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := check(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	// The check can fail.
	if err := os.WriteFile(file, []byte(strings.Replace(text, "ansible.builtin.template:", "ansible.builtin.templet:", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := check(); err == nil {
		t.Errorf("a module that is none was taken: %s", out)
	}
}
