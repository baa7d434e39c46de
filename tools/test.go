//go:build ignore

// Command test runs `go test` with the arguments given, prints what that would print, and at the end which tests were skipped and why:
// a green line must not hide that half of the tests needed root. `make test` runs it.
//
// With QOSCTL_AGAIN set, as in continuous integration, a few tests that have failed get a second try, each package alone: machines are at
// times slower than any patience. Both tries are shown, and the end says loudly which needed the second.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// event is one line of `go test -json`.
type event struct {
	Action  string
	Package string
	Test    string // "": the event is the package's
	Output  string
}

// skip is a test that was skipped.
type skip struct{ pkg, test, reason string }

// report prints events as they come in and collects skips.
type report struct {
	w     io.Writer
	kept  map[string][]string // output of tests that have not passed (yet), by package and test
	tests map[string][]string // tests of a package, in the order of their beginning
	skips []skip
	fails map[string][]string // tests that have failed, by package
	whole bool                // a package has failed as a whole: it does not build, has panicked or taken too long
}

// mostAgain is how many tests may get a second try: more are no chance.
const mostAgain = 5

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "test:", err)
	}
	os.Exit(code)
}

func run(args []string) (int, error) {
	r, code, err := try(args)
	n := 0
	for _, tests := range r.fails {
		n += len(tests)
	}
	if code == 0 || err != nil || r.whole || n == 0 || n > mostAgain || os.Getenv("QOSCTL_AGAIN") == "" {
		return code, err
	}
	flags := slices.DeleteFunc(slices.Clone(args), func(a string) bool { return strings.HasPrefix(a, "./") })
	for pkg, tests := range r.fails {
		only := "^(" + strings.Join(tests, "|") + ")$"
		fmt.Printf("\nAGAIN: %s %s\n", pkg, only)
		if _, code, err := try(append(slices.Clone(flags), "-count=1", "-run", only, pkg)); code != 0 {
			return code, err
		}
		fmt.Printf("FLAKY: %s %s failed, and passed at the second try: what it said at the first is above\n", pkg, only)
	}
	return 0, nil
}

// try runs go test once.
func try(args []string) (*report, int, error) {
	r := &report{w: os.Stdout, kept: make(map[string][]string), tests: make(map[string][]string), fails: make(map[string][]string)}
	cmd := exec.Command(cmp.Or(os.Getenv("GO"), "go"), append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return r, 1, err
	}
	if err := cmd.Start(); err != nil {
		return r, 1, err
	}
	bad := r.read(out)
	if bad != nil {
		_, _ = io.Copy(os.Stdout, out) // so that go test can go on
	}
	err = cmd.Wait()
	r.skipped()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return r, max(1, exit.ExitCode()), bad
	}
	if err = errors.Join(bad, err); err != nil {
		return r, 1, err
	}
	return r, 0, nil
}

func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil {
				r.see(e)
			} else if _, err := r.w.Write(line); err != nil { // go test's own word, no event
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) see(e event) {
	key := e.Package + " " + e.Test
	switch {
	case e.Action == "build-output":
		fmt.Fprint(r.w, e.Output)
	case e.Action == "output" && e.Test == "":
		if e.Output != "PASS\n" && !strings.HasPrefix(e.Output, "=== ") {
			if strings.HasPrefix(e.Output, "FAIL") {
				r.failures(e.Package)
			}
			fmt.Fprint(r.w, e.Output)
		}
	case e.Action == "output" && !strings.HasPrefix(e.Output, "=== "):
		if _, ok := r.kept[key]; !ok {
			r.tests[e.Package] = append(r.tests[e.Package], e.Test)
		}
		r.kept[key] = append(r.kept[key], e.Output)
	case e.Action == "skip" && e.Test != "":
		r.skips = append(r.skips, skip{e.Package, e.Test, reason(r.kept[key])})
		r.kept[key] = nil
	case e.Action == "pass" && e.Test != "":
		r.kept[key] = nil
	case e.Action == "fail" && e.Test == "":
		r.failures(e.Package) // it ended without its FAIL line: a panic, a timeout
		r.whole = r.whole || len(r.fails[e.Package]) == 0
	case e.Action == "fail" && top(e.Test) == e.Test:
		r.fails[e.Package] = append(r.fails[e.Package], e.Test)
	}
}

// failures prints what the tests of a package said that neither passed nor were skipped.
func (r *report) failures(pkg string) {
	for _, t := range r.tests[pkg] {
		fmt.Fprint(r.w, strings.Join(r.kept[pkg+" "+t], ""))
	}
	delete(r.tests, pkg)
}

// reason is what a skipped test said, without file and line.
func reason(output []string) string {
	var said []string
	for _, o := range output {
		text := strings.TrimSpace(o)
		if text == "" || strings.HasPrefix(text, "--- SKIP") {
			continue
		}
		if file, rest, ok := strings.Cut(text, ": "); ok && strings.Contains(file, ".go:") {
			text = rest
		}
		said = append(said, strings.TrimPrefix(text, "SKIPPED, "))
	}
	if len(said) == 0 {
		return "no reason given"
	}
	return strings.Join(said, " ")
}

// skipped prints the skips, those of one reason together, subtests as a number.
func (r *report) skipped() {
	if len(r.skips) == 0 {
		return
	}
	fmt.Fprintf(r.w, "\nSKIPPED, %d tests and subtests:\n", len(r.skips))
	slices.SortStableFunc(r.skips, func(a, b skip) int {
		return cmp.Or(cmp.Compare(a.reason, b.reason), cmp.Compare(a.pkg, b.pkg), cmp.Compare(top(a.test), top(b.test)))
	})
	for i, n := 0, 0; i < len(r.skips); i += n {
		s := r.skips[i]
		if i == 0 || s.reason != r.skips[i-1].reason {
			fmt.Fprintf(r.w, "  %s\n", s.reason)
		}
		for n = 0; i+n < len(r.skips) && r.skips[i+n].reason == s.reason && r.skips[i+n].pkg == s.pkg && top(r.skips[i+n].test) == top(s.test); {
			n++
		}
		of := ""
		if top(s.test) != s.test {
			of = fmt.Sprintf(" (%d of its subtests)", n)
		}
		fmt.Fprintf(r.w, "    %s %s%s\n", s.pkg, top(s.test), of)
	}
}

// top is the name of the test that a subtest belongs to.
func top(test string) string {
	name, _, _ := strings.Cut(test, "/")
	return name
}
