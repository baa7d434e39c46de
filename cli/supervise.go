package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is a process of this program that is started again when it dies.
type child struct {
	name  string
	path  string
	args  []string
	env   []string
	out   io.Writer     // its output and ours about it, lines with a prefix
	grace time.Duration // between SIGTERM and SIGKILL
}

// settled is how long a child must have lived for its next death to be a new matter; usage errors before the first settling end all.
const settled = 5 * time.Second

// supervise runs children until ctx ends, then stops them one after the other, the first one first. A child that can't be started
// or whose use is wrong ends the others too.
func supervise(ctx context.Context, children ...*child) error {
	failed, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	stops := make([]context.CancelFunc, len(children))
	done := make([]chan struct{}, len(children))
	errs := make([]error, len(children))
	var wg sync.WaitGroup
	for i, c := range children {
		running, stop := context.WithCancel(context.WithoutCancel(ctx))
		defer stop()
		stops[i], done[i] = stop, make(chan struct{})
		wg.Go(func() {
			defer close(done[i])
			if errs[i] = c.keepRunning(running); errs[i] != nil {
				fail(errs[i])
			}
		})
	}
	<-failed.Done()
	for i := range children {
		stops[i]()
		<-done[i]
	}
	wg.Wait()
	return errors.Join(errs...)
}

// keepRunning starts the child again and again until ctx ends. An error says that there is no point in it.
func (c *child) keepRunning(ctx context.Context) error {
	again := newBackoff(200*time.Millisecond, 5*time.Second)
	for early := 0; ; early++ {
		began := time.Now()
		err := c.runOnce(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) >= settled {
			early = 0
			again.reset()
		}
		exit, exited := errors.AsType[*exec.ExitError](err)
		hopeless := exited && (exit.ExitCode() == exitUsage || exit.ExitCode() == exitInvalid || exit.ExitCode() == exitForbidden)
		if !exited && err != nil || hopeless || early >= 5 && !killed(exit) {
			return withHint(fmt.Errorf("the %s process ended: %w", c.name, err), "its last lines above say why")
		}
		if killed(exit) { // somebody else's doing: no sign that it would end again by itself
			again.reset()
		}
		fmt.Fprintf(c.out, "ended (%s), starting it again\n", endOf(err))
		if again.wait(ctx) != nil {
			return nil
		}
	}
}

// killed says whether a process was ended by somebody's signal.
func killed(e *exec.ExitError) bool {
	if e == nil {
		return false
	}
	status, ok := e.Sys().(syscall.WaitStatus)
	return ok && status.Signaled()
}

func endOf(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// runOnce runs the child to its end; when ctx ends, it is told to stop, and killed after the grace.
func (c *child) runOnce(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, c.path, c.args...)
	cmd.Env = c.env
	cmd.Stdout, cmd.Stderr = c.out, c.out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = c.grace
	// A group of its own: the terminal's Ctrl-C is for us, who stop the children in order. If we are killed, they are told to stop.
	// That signal follows the thread that started the child, which therefore must stay.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return cmd.Wait()
}

// childEnv is the environment without what would change the children's configuration.
func childEnv(environ []string) []string {
	var env []string
	for _, e := range environ {
		if !strings.HasPrefix(e, "QOSCTL_") && !strings.HasPrefix(e, "NOTIFY_SOCKET=") && !strings.HasPrefix(e, "WATCHDOG_") {
			env = append(env, e)
		}
	}
	return env
}

// prefixer writes whole lines of several children to one place, each with its child's name.
type prefixer struct {
	mu     sync.Mutex
	w      io.Writer
	colour bool
}

func newPrefixer(w io.Writer) *prefixer {
	_, colour := terminalWidth(w)
	return &prefixer{w: w, colour: colour}
}

// as makes a writer for one child; colour is an ANSI code.
func (p *prefixer) as(name string, colour int) io.Writer {
	prefix := name + " | "
	if p.colour {
		prefix = fmt.Sprintf("\x1b[%dm%s\x1b[0m", colour, prefix)
	}
	return &prefixed{to: p, prefix: prefix}
}

// prefixed keeps a line until it is whole, or longer than is good.
type prefixed struct {
	to     *prefixer
	prefix string
	mu     sync.Mutex
	part   []byte
}

const longestLine = 64 << 10

func (w *prefixed) Write(data []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.part = append(w.part, data...)
	for {
		i := bytes.IndexByte(w.part, '\n')
		if i < 0 && len(w.part) < longestLine {
			return len(data), nil
		}
		if i < 0 {
			i = longestLine - 1
		}
		if err := w.to.line(w.prefix, w.part[:i]); err != nil {
			return 0, err
		}
		w.part = w.part[min(i+1, len(w.part)):]
	}
}

func (p *prefixer) line(prefix string, text []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := fmt.Fprintf(p.w, "%s%s\n", prefix, text)
	return err
}
