package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"qosctl/agent/api"
	"qosctl/qos"
)

// follow shows a job until it has ended, and returns its outcome's exit code.
func (a *app) follow(ctx context.Context, c *api.Client, j api.Job) error {
	f := &follower{}
	f.line, f.live = newLine(a.out)
	period := 10 * time.Second
	if f.live {
		period = time.Second
	}
	j, err := watch(ctx, c, j, period, func(j api.Job) error { return f.show(j, time.Now()) })
	f.clear()
	if f.live && errors.Is(err, context.Canceled) {
		fmt.Fprintf(a.err, "%s goes on: `qosctl status %[1]s` shows how it stands, `qosctl cancel %[1]s` ends it\n", j.Name)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, outcomeText(j))
	if code := outcomeCode(j); code != exitOK {
		return &exitStatus{code: code}
	}
	return nil
}

// terminalWidth returns the width of a terminal, and whether w is one that can redraw.
func terminalWidth(w io.Writer) (int, bool) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return 0, false
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 {
		return 80, true
	}
	return width, true
}

// follower shows one job's progress: on a terminal as a bar in one line, else as a line for each change of phase or run and each tenth done.
type follower struct {
	line

	live bool
	last string // what the last plain line was about
}

func (f *follower) show(j api.Job, now time.Time) error {
	if j.Phase.Terminal() {
		return nil
	}
	if f.live {
		return f.put(func(width int) string { return followed(j, now, width) })
	}
	about := fmt.Sprint(j.Phase, j.Index, j.State, j.Late, int(10*done(j)))
	if about == f.last {
		return nil
	}
	f.last = about
	_, err := fmt.Fprintf(f.w, "%s  %s  %s\n", now.Local().Format(time.TimeOnly), phaseText(j), progressText(j, now))
	return err
}

// followed is name, bar and figures of a job.
func followed(j api.Job, now time.Time, width int) string {
	text := progressText(j, now)
	room := width - len([]rune(j.Name)) - len([]rune(text)) - 5
	line := j.Name + " "
	if j.Phase != qos.PhaseRunning {
		line += phaseText(j) + " "
	} else if room >= 10 {
		line += drawBar(min(room, 50), done(j), elapsed(j, now)) + " "
	}
	return line + text
}

// drawBar fills a bar by the work that is done and marks with | how much of the time is gone: on plan, the filling reaches the mark.
func drawBar(width int, work, gone float64) string {
	full := int(work*float64(width) + 0.5)
	cells := []rune(strings.Repeat("█", min(full, width)) + strings.Repeat("·", width-min(full, width)))
	if gone >= 0 {
		cells[min(int(gone*float64(width)), width-1)] = '|'
	}
	return "[" + string(cells) + "]"
}

// elapsed is the share of the time to the deadline that is gone; -1 when the deadline doesn't count yet.
func elapsed(j api.Job, now time.Time) float64 {
	if j.Deadline.IsZero() || j.Started.IsZero() || !j.Deadline.After(j.Started) {
		return -1
	}
	return max(0, float64(now.Sub(j.Started))/float64(j.Deadline.Sub(j.Started)))
}

func progressText(j api.Job, now time.Time) string {
	text := figuresText(j, now)
	if v := verdict(j, now); v != "" {
		text += "  " + v
	}
	return text
}

// figuresText is how much is done, with how many CPUs, and how long there is.
func figuresText(j api.Job, now time.Time) string {
	text := doneText(j)
	if j.Phase == qos.PhaseRunning {
		text += fmt.Sprintf("  %s CPU", cores(j.Allocation))
	}
	if l := left(j, now); l != "" {
		text += "  " + l + " left"
	}
	return text
}
