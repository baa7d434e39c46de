package cli

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "write golden files anew")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"qosctl": func() { os.Exit(Main()) }})
}

// TestScripts runs the commands against an agent that says what the script's files say; see fakeAgent.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: *update,
		Setup: func(e *testscript.Env) error {
			socket := filepath.Join(e.WorkDir, "agent.sock")
			stop, err := startFakeAgent(e.WorkDir, socket)
			if err != nil {
				return err
			}
			e.Defer(stop)
			e.Setenv("QOSCTL_AGENT", socket)
			e.Setenv("SOCKET", socket)
			e.Setenv("TZ", "UTC")
			e.Setenv("XDG_RUNTIME_DIR", e.WorkDir)
			e.Setenv("HOME", e.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// exits runs a command and wants a certain exit code: exits 3 qosctl wait x.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("use: exits CODE COMMAND...")
	}
	script := `"$@"; code=$?; if [ $code -ne "$WANT" ]; then echo "exit code $code, want $WANT" >&2; exit 1; fi`
	ts.Setenv("WANT", args[0])
	err := ts.Exec("sh", append([]string{"-c", script, "sh"}, args[1:]...)...)
	if err != nil {
		ts.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
}

// TestEveryCommandIsDocumented holds the help against rules, and docs/cli.md against the help.
func TestEveryCommandIsDocumented(t *testing.T) {
	t.Parallel()
	root := (&app{}).rootCmd()
	for _, c := range everyCommand(root) {
		if c.Runnable() && c.Name() != "shim" && c.Name() != "help" && c.Example == "" {
			t.Errorf("%s has no example in its help", c.CommandPath())
		}
		if c.Short == "" {
			t.Errorf("%s has no short help", c.CommandPath())
		}
		if r := regexp.MustCompile(`\.$`); r.MatchString(c.Short) {
			t.Errorf("%s: the short help ends with a full stop", c.CommandPath())
		}
	}
	const path = "../docs/cli.md"
	want := reference(root)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the commands say; write it anew with `go test ./cli -run TestEveryCommandIsDocumented -update`", path)
	}
}
