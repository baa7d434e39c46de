package docs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"qosctl/agent"
	"qosctl/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"qosctl": func() { os.Exit(cli.Main()) }})
}

// perCommand bounds a command of a page.
const perCommand = 5 * time.Minute

// The commands of the pages that have runMark are run in their order, as a reader types them: qosctl dev with real processes in real cgroups, in a
// network namespace of its own, so that its ports are free. Each must exit with 0, or its page goes on with `$ echo $?` and the code. What a page
// says that a command prints is compared by its words: figures, times and IDs differ. A line of ... stands for any lines.
func TestPagesThatAreRun(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: cgroups, and a network namespace for the ports of qosctl dev")
	}
	if err := agent.Default().Cgroup.Check(); err != nil {
		t.Skip("needs write access to cgroups: ", err)
	}
	for _, program := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs what the pages use: ", err)
		}
	}
	if err := ownNetwork(); err != nil {
		t.Skip("needs a network namespace: ", err)
	}
	ran := 0
	for _, p := range pages(t) { // not in subtests: those are goroutines of their own, in the machine's network
		if slices.Contains(p.lines, runMark) {
			ran++
			newReader(t).read(p)
		}
	}
	if ran == 0 {
		t.Error("no page is run")
	}
}

// ownNetwork puts the calling thread, which ends with its goroutine, into a network of its own, which has loopback alone.
func ownNetwork() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	up, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	up.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, up)
}

// reader does what a page says.
type reader struct {
	t    *testing.T
	base string // of what it makes; short, for the paths of sockets
	last string // exit code of the last command
	dev  *exec.Cmd
	said *output
}

func newReader(t *testing.T) *reader {
	t.Helper()
	base, err := os.MkdirTemp("", "qd")
	if err == nil {
		err = os.Mkdir(filepath.Join(base, "work"), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	return &reader{t: t, base: base, last: "0"}
}

// laterMark is above a block whose commands may be typed too early: they are repeated until they print what the page says.
const laterMark = "after some seconds"

// step is a command, and what the page says of it.
type step struct {
	at, text string
	want     []string // "": nothing is said of it
	fails    bool
	later    bool
}

var fileMark = regexp.MustCompile(`^file: ([a-z0-9.-]+)$`)

// read runs a page from its beginning to its end. A block under <!-- file: NAME --> is a file that the reader is told to write.
func (r *reader) read(p page) {
	blocks, _ := p.blocks(r.t)
	defer r.stop()
	for _, b := range blocks {
		if m := fileMark.FindStringSubmatch(b.mark); m != nil {
			if err := os.WriteFile(filepath.Join(r.base, "work", m[1]), []byte(strings.Join(b.lines, "\n")+"\n"), 0o600); err != nil {
				r.t.Fatal(err)
			}
		}
		if b.language != "console" || strings.HasPrefix(b.mark, "not run: ") {
			continue
		}
		for i := 0; i < len(b.lines); {
			text, ok := strings.CutPrefix(b.lines[i], "$ ")
			if !ok {
				r.t.Fatalf("%s:%d: the block does not begin with a command", p.name, b.line)
			}
			at := i
			for i++; strings.HasSuffix(text, `\`); i++ {
				text = strings.TrimSuffix(text, `\`) + b.lines[i]
			}
			from := i
			for i < len(b.lines) && !strings.HasPrefix(b.lines[i], "$ ") {
				i++
			}
			failing := i < len(b.lines) && b.lines[i] == "$ echo $?"
			r.step(step{fmt.Sprintf("%s:%d", p.name, b.line+at), text, b.lines[from:i], failing, b.mark == laterMark})
		}
	}
}

// step runs one command, once more each second if it may be too early.
func (r *reader) step(s step) {
	r.t.Helper()
	out := r.run(s)
	if s.later {
		tick, late := time.NewTicker(time.Second), time.After(time.Minute)
		defer tick.Stop()
		for patient := true; patient && !same(s.want, out); {
			select {
			case <-tick.C:
				out = r.run(s)
			case <-late:
				patient = false
			}
		}
	}
	r.t.Logf("$ %s\n%s", s.text, out)
	if len(s.want) > 0 && !same(s.want, out) {
		r.t.Errorf("%s: %s printed\n%s\nand the page says\n%s", s.at, s.text, out, strings.Join(s.want, "\n"))
	}
}

// run runs a command and returns what it printed.
func (r *reader) run(s step) string {
	r.t.Helper()
	bare := strings.TrimPrefix(s.text, "sudo ")
	switch {
	case bare == "qosctl dev" || strings.HasPrefix(bare, "qosctl dev "):
		r.stop()
		return r.begin(bare)
	case bare == "echo $?":
		return r.last
	}
	ctx, stop := context.WithTimeout(r.t.Context(), perCommand)
	defer stop()
	b, err := r.command(ctx, "bash", "-o", "pipefail", "-c", strings.ReplaceAll(s.text, "sudo ", "")).CombinedOutput()
	r.last = "0"
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 {
		r.last = itoa(exit.ExitCode())
	} else if err != nil {
		r.t.Fatalf("%s: %s: %v\n%s", s.at, s.text, err, b)
	}
	if r.last != "0" && !s.fails {
		r.t.Fatalf("%s: %s: exit code %s\n%s", s.at, s.text, r.last, b)
	}
	return string(b)
}

func (r *reader) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = filepath.Join(r.base, "work")
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+r.base, "HOME="+r.base, "QOSCTL_AGENT=", "QOSCTL_TOKEN_FILE=")
	return cmd
}

// begin starts qosctl dev, and waits for what it greets with and for its agent.
func (r *reader) begin(text string) string {
	r.t.Helper()
	words := strings.Fields(text)
	r.said = &output{}
	r.dev = r.command(context.Background(), words[0], words[1:]...)
	var greeting output
	r.dev.Stdout, r.dev.Stderr, r.dev.WaitDelay = &greeting, r.said, time.Second
	r.dev.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := r.dev.Start(); err != nil {
		r.t.Fatal(err)
	}
	socket := filepath.Join(r.base, "qosctl-dev-0", "run", "qosctl.sock")
	tick, late := time.NewTicker(50*time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for {
		c, err := net.Dial("unix", socket)
		if err == nil {
			_ = c.Close() // nothing was said on it
			return strings.ReplaceAll(greeting.String(), r.base, "/tmp")
		}
		select {
		case <-tick.C:
		case <-late:
			r.stop()
			r.t.Fatalf("qosctl dev does not answer: %v", err)
		}
	}
}

// stop ends qosctl dev as Ctrl-C does.
func (r *reader) stop() {
	if r.dev == nil {
		return
	}
	err := r.dev.Process.Signal(syscall.SIGINT)
	dev, late := r.dev, time.AfterFunc(time.Minute, func() { _ = r.dev.Process.Kill() })
	defer late.Stop()
	if err = errors.Join(err, dev.Wait()); err != nil {
		r.t.Errorf("qosctl dev: %v", err)
	}
	if r.t.Failed() {
		r.t.Log(r.said.String())
	}
	r.dev = nil
}

// output may be written to and read at once.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
