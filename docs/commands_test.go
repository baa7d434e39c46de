package docs_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"qosctl/cli"
)

// A block ```console has commands, each after "$ ", and what they print. A comment right above it may say why they can't be checked:
//
//	<!-- not run: REASON -->     commands of others (apt, systemctl) that no test runs
//	<!-- not parsed: REASON -->  commands of qosctl that `split` does not understand
//
// How many lines are marked so is counted here, so that nobody gets used to it.
const (
	notRun    = 10
	notParsed = 0
)

// The pages whose commands are run one after the other say so with this line; see run_test.go.
const runMark = "<!-- the commands of this page are run by go test ./docs -->"

// line is a line of commands in a page.
type line struct {
	at      string // file:line
	text    string
	mark    string
	console bool // of a block that has commands alone; of others only those of qosctl are looked at
	run     bool // by run_test.go
}

// commands are all lines of commands in a page's blocks.
func (p page) commands(t *testing.T) (list []line) {
	t.Helper()
	blocks, _ := p.blocks(t)
	run := slices.Contains(p.lines, runMark)
	for _, b := range blocks {
		for i := 0; i < len(b.lines); i++ {
			l := line{at: fmt.Sprintf("%s:%d", p.name, b.line+i), mark: b.mark, console: b.language == "console", run: run}
			var ok bool
			switch text := b.lines[i]; {
			case b.language == "console":
				l.text, ok = strings.CutPrefix(text, "$ ")
			case b.language != "" || p.name == "docs/cli.md" && !strings.HasPrefix(text, "  "): // how a command is used, in general
				continue
			default:
				l.text = strings.TrimPrefix(strings.TrimSpace(text), "$ ")
				first, _, _ := strings.Cut(strings.TrimPrefix(l.text, "sudo "), " ")
				ok = first == "qosctl" || first == "bin/qosctl"
			}
			if !ok {
				continue
			}
			for strings.HasSuffix(l.text, `\`) && i+1 < len(b.lines) {
				i++
				l.text = strings.TrimSuffix(l.text, `\`) + strings.TrimSpace(b.lines[i])
			}
			list = append(list, l)
		}
	}
	return list
}

// Each command of qosctl in the pages and in the help is one that it has, with flags that it has and arguments that it takes; what is not checked
// says why, and is counted.
func TestCommandsOfThePages(t *testing.T) {
	t.Parallel()
	parsed, left, run := 0, 0, 0
	for _, p := range pages(t) {
		for _, l := range p.commands(t) {
			cmds, err := split(l.text)
			if reason, ok := strings.CutPrefix(l.mark, "not parsed: "); err != nil {
				if left++; !ok || reason == "" {
					t.Errorf("%s: %v (a comment <!-- not parsed: REASON --> above the block?)", l.at, err)
				}
				continue
			}
			for _, c := range cmds {
				c = c.bare()
				if len(c) == 0 {
					continue
				}
				if name := strings.TrimPrefix(c[0], "bin/"); name == "qosctl" {
					parsed++
					if err := parse(c[1:]); err != nil {
						t.Errorf("%s: %s: %v", l.at, l.text, err)
					}
				} else if reason, ok := strings.CutPrefix(l.mark, "not run: "); l.console && (!l.run || ok) {
					if run++; !ok || reason == "" {
						t.Errorf("%s: nothing checks %q (a comment <!-- not run: REASON --> above the block?)", l.at, c[0])
					}
					t.Logf("%s: not run: %s (%s)", l.at, l.text, reason)
				}
			}
		}
	}
	t.Logf("%d commands of qosctl parsed, %d lines not; %d commands of others not run", parsed, left, run)
	if left != notParsed || run != notRun {
		t.Errorf("%d lines are not parsed and %d commands not run, want %d and %d: if that is meant, say so in this file", left, run, notParsed, notRun)
	}
	if parsed < 100 {
		t.Errorf("only %d commands found", parsed)
	}
}

// parse holds arguments against the commands, and runs nothing.
func parse(args []string) error {
	root := cli.Commands()
	root.InitDefaultHelpCmd()
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	cmd.InitDefaultHelpFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if help, err := cmd.Flags().GetBool("help"); err == nil && help {
		return nil
	}
	if !cmd.Runnable() {
		return errors.New("is no command by itself")
	}
	return errors.Join(cmd.ValidateArgs(cmd.Flags().Args()), cmd.ValidateRequiredFlags(), cmd.ValidateFlagGroups())
}

// Each `qosctl COMMAND --flag` in a page's text names a command and flags that are there.
func TestCommandsInTheText(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, p := range pages(t) {
		if p.name == "CHANGELOG.md" { // tells of what was
			continue
		}
		p.spans(t, func(n int, text string) {
			words := strings.Fields(strings.TrimPrefix(text, "sudo "))
			if len(words) < 2 || words[0] != "qosctl" {
				return
			}
			seen++
			if err := named(words[1:]); err != nil {
				t.Errorf("%s:%d: `%s`: %v", p.name, n, text, err)
			}
		})
	}
	if seen < 100 {
		t.Errorf("only %d commands found", seen)
	}
}

// named says whether words begin with a command, and name flags that it has. Several commands with commas are looked at one by one.
func named(words []string) error {
	root := cli.Commands()
	root.InitDefaultHelpCmd()
	at, value := root, false
	for i, w := range words {
		name := strings.Trim(w, "[],…()|")
		switch {
		case value: // of the flag before
			value = false
		case name == "":
			return nil
		case strings.HasPrefix(name, "-"):
			text, _, given := strings.Cut(strings.TrimLeft(name, "-"), "=")
			at.InitDefaultHelpFlag()
			flag := at.Flag(text)
			if flag == nil && len(text) == 1 {
				flag = at.Flags().ShorthandLookup(text)
			}
			if flag == nil {
				return fmt.Errorf("%s has no flag %s", at.CommandPath(), name)
			}
			value = !given && flag.NoOptDefVal == "" && !strings.HasSuffix(w, "]")
		case at == root || i > 0 && strings.HasSuffix(words[i-1], ","):
			parent := root
			if at != root {
				parent = at.Parent()
			}
			if at = child(parent, name); at == nil {
				return fmt.Errorf("there is no command %s", name)
			}
		case child(at, name) != nil:
			at = child(at, name)
		}
	}
	return nil
}

func child(parent *cobra.Command, name string) *cobra.Command {
	for _, c := range parent.Commands() {
		if c.Name() == name || c.HasAlias(name) {
			return c
		}
	}
	return nil
}
