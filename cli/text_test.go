package cli

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"qosctl/agent/api"
	"qosctl/qos"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	dial := func(errno syscall.Errno) error {
		return &api.UnreachableError{Address: "/run/qosctl/qosctl.sock", Err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errno)}}
	}
	for _, c := range []struct {
		name string
		err  error
		want int
	}{
		{"nobody listens", dial(syscall.ECONNREFUSED), exitUnreachable},
		{"a socket for others", dial(syscall.EACCES), exitForbidden},
		{"interrupted", context.Canceled, exitInterrupted},
		{"anything else", errors.New("x"), exitError},
	} {
		if got := exitCodeOf(c.err); got != c.want {
			t.Errorf("%s: exit code %d, want %d", c.name, got, c.want)
		}
	}
}

func TestSpan(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0.0s", 1500 * time.Millisecond: "1.5s", 12 * time.Second: "12s", -65 * time.Second: "-1m05s",
		time.Hour + 2*time.Minute: "1h02m", 49 * time.Hour: "2d01h",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%d) is %q, want %q", d, got, want)
		}
	}
}

func TestBar(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		work, gone float64
		want       string
	}{{0, -1, "[··········]"}, {0.5, 0.3, "[███|█·····]"}, {0.3, 0.5, "[███··|····]"}, {1, 2, "[█████████|]"}, {1.5, 0, "[|█████████]"}} {
		if got := drawBar(10, tt.work, tt.gone); got != tt.want {
			t.Errorf("drawBar(10, %g, %g) is %s, want %s", tt.work, tt.gone, got, tt.want)
		}
	}
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	j := api.Job{Name: "/a", Phase: qos.PhaseRunning, State: qos.OnPlan, Allocation: 0.5, Progress: 5, QoS: qos.QoS{Duration: 10}, Started: now.Add(-time.Minute), Deadline: now.Add(time.Minute)}
	if got, want := followed(j, now, 60), "/a [█████████|·········] 50%  0.50 CPU  1m00s left  ON_PLAN"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestTheBarIsFoundAgainInANarrowerWindow(t *testing.T) {
	t.Parallel()
	width := 60
	f := line{drawn: 50, size: func() int { return width }}
	for _, tt := range []struct {
		width int
		want  string
	}{{60, "\r\x1b[K"}, {50, "\r\x1b[K"}, {49, "\r\x1b[1A\x1b[J"}, {20, "\r\x1b[2A\x1b[J"}} {
		width = tt.width
		if got := f.again(); got != tt.want {
			t.Errorf("width %d: %q, want %q", width, got, tt.want)
		}
	}
}

func TestABarKeepsToItsRoom(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		width      int
		share      float64
		text, rest string
		took       time.Duration
		want       string
	}{
		{60, 0.5, "5 of 10 runs", "about 3s left", time.Second, "[███████████████··············] 5 of 10 runs  about 3s left"},
		{40, 0.5, "5 of 10 runs", "about 3s left", time.Second, "[█████····] 5 of 10 runs  about 3s left"},
		{30, 0.5, "5 of 10 runs", "about 3s left", time.Second, "5 of 10 runs  about 3s left"},
		{20, 0.5, "5 of 10 runs", "about 3s left", time.Second, "5 o…  about 3s left"},
		{40, -1, "/a is being saved", "", 1900 * time.Millisecond, "/a is being saved  1s"},
		{40, 2, "/a", "", 75 * time.Second, "[███████████████████████████] /a  1m15s"},
	} {
		got := barText(tt.width, tt.share, tt.text, tt.rest, tt.took)
		if got != tt.want {
			t.Errorf("width %d: %q, want %q", tt.width, got, tt.want)
		}
		if n := utf8.RuneCountInString(got); n >= tt.width {
			t.Errorf("%d places of %d", n, tt.width)
		}
	}
	if got := remaining(10*time.Second, 25, 100); got != 30*time.Second {
		t.Errorf("%s remain", got)
	}
}

func TestAMeterSpeaksSeldomWhereThereIsNoTerminal(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	begun := time.Now()
	m := meter{progress: &progress{line: line{w: &b}, begun: begun}, what: "runs", total: 4, told: begun}
	m.add()
	for _, after := range []time.Duration{time.Second, 9 * time.Second, 10 * time.Second, 15 * time.Second, 21 * time.Second} {
		m.look(begun.Add(after))
	}
	if got := regexp.MustCompile(`(?m)^\S+  `).ReplaceAllString(b.String(), ""); got != "1 of 4 runs, about 30s left\n1 of 4 runs, about 1m03s left\n" {
		t.Errorf("%q", got)
	}
}

func TestTopKeepsToTheWindow(t *testing.T) {
	t.Parallel()
	width, height := 4, 4
	v := topView{live: true, size: func() (int, int) { return width, height }}
	for _, tt := range []struct {
		width, height int
		want          string
	}{
		{4, 4, "node\x1b[K\na\x1b[K\nand \x1b[K\n\x1b[J"},
		{4, 4, "\x1b[3Anode\x1b[K\na\x1b[K\nand \x1b[K\n\x1b[J"},
		{12, 5, "\x1b[H\x1b[2Jnodes\x1b[K\na\x1b[K\nb\x1b[K\nand 2 more\x1b[K\n\x1b[J"},
		{12, 6, "\x1b[H\x1b[2Jnodes\x1b[K\na\x1b[K\nb\x1b[K\nc\x1b[K\nd\x1b[K\n\x1b[J"},
	} {
		width, height = tt.width, tt.height
		if got := v.redraw("nodes\na\nb\nc\nd\n"); got != tt.want {
			t.Errorf("%d × %d: %q, want %q", width, height, got, tt.want)
		}
	}
}

func TestDoneNeverGoesBack(t *testing.T) {
	t.Parallel()
	j := api.Job{Iterations: 5, QoS: qos.QoS{Duration: 10}, Phase: qos.PhaseRunning, Progress: 10}
	last := 0.0
	for i := range 5 {
		for _, phase := range []qos.Phase{qos.PhaseRunning, qos.PhaseEnded} {
			if j.Phase = phase; phase == qos.PhaseEnded {
				j.Tally.Succeeded = i + 1
			}
			if got := done(j); got < last || got > float64(i+1)/5+1e-9 {
				t.Errorf("%s in iteration %d: %g after %g", phase, i, got, last)
			}
			last = done(j)
		}
	}
}

func TestLateIsPastTheDeadline(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for after, want := range map[time.Duration]string{time.Second: "ON_PLAN overrun", -time.Second: "ON_PLAN late"} {
		if got := verdict(api.Job{Phase: qos.PhaseRunning, State: qos.OnPlan, Late: true, Deadline: now.Add(after)}, now); got != want {
			t.Errorf("deadline in %s: %s", after, got)
		}
	}
}

func TestSpark(t *testing.T) {
	t.Parallel()
	if got := spark([]float64{0, 0.5, 1, 2, -1}); got != "▁▃▅█▁" {
		t.Error(got)
	}
	if got := spark([]float64{0, 0}); got != "▁▁" {
		t.Error(got)
	}
}

func TestAPrefixMeansOneJob(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	jobs := []api.Job{
		{ID: "aaaa1111", Name: "/web"}, {ID: "bbbb1111", Name: "/web", Submitted: at}, {ID: "cccc1111", Name: "/web2"}, {ID: "dddd1111", Name: "series"},
	}
	for ref, want := range map[string][]string{
		"web": {"bbbb1111"}, "/web": {"bbbb1111"}, "we": {"bbbb1111", "cccc1111"}, "ser": {"dddd1111"}, "aaaa": {"aaaa1111"}, "AAAA1": {"aaaa1111"}, "aaa": nil, "x": nil,
	} {
		var got []string
		for _, j := range matches(jobs, ref) {
			got = append(got, j.ID)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", ref, diff)
		}
	}
}

func TestBackoffGrowsToItsBound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBackoff(time.Second, 4*time.Second)
		for _, most := range []time.Duration{1, 2, 4, 4, 4} {
			began := time.Now()
			if err := b.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(began); d < most*time.Second/2 || d > most*time.Second {
				t.Errorf("paused %s, want %ds at most and half of it at least", d, most)
			}
		}
		if b.elapsed() == 0 {
			t.Error("no time has passed")
		}
		b.reset()
		if b.elapsed() != 0 {
			t.Error("reset forgets nothing")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := b.wait(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestSystemdIsTold(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "n")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n := &notifier{socket: path}
	if err := n.send("READY=1"); err != nil {
		t.Fatal(err)
	}
	read := func() string {
		b := make([]byte, 100)
		if err := l.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		k, err := l.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:k])
	}
	if got := read(); got != "READY=1" {
		t.Error(got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	lives, asked := true, make(chan bool, 100)
	alive := func() bool {
		defer func() { lives = false; asked <- true }()
		return lives
	}
	wg.Go(func() { n.watchdog(ctx, "20000", "", alive) })
	if got := read(); got != "WATCHDOG=1" {
		t.Error(got)
	}
	for range 3 { // from now on it stands still
		<-asked
	}
	cancel()
	wg.Wait()
	if err := l.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if k, err := l.Read(make([]byte, 100)); err == nil {
		t.Errorf("systemd was told again that it lives (%d bytes)", k)
	}
	n.watchdog(t.Context(), "20000", "1", alive) // meant for another process
	n.watchdog(t.Context(), "", "", alive)
	if err := (&notifier{}).send("x"); err != nil {
		t.Error(err)
	}
}

func TestARestartIsNoStop(t *testing.T) {
	t.Parallel()
	const unit = "qosctl-agent.service"
	for list, want := range map[string]bool{
		"": false,
		"  87 qosctl-agent.service stop    running\n":                                false,
		"  87 qosctl-agent.service restart running\n":                                true,
		" 9 docker.service restart waiting\n87 qosctl-agent.service start waiting\n": true,
		" 9 docker.service restart waiting\n":                                        false,
		"garbage\n":                                                                  false,
	} {
		if got := jobStarts(list, unit); got != want {
			t.Errorf("%q: %t, want %t", list, got, want)
		}
	}
}
