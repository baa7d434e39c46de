package cli

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/agent/api"
	"qosctl/qos"
)

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
	f := follower{width: 60, live: true}
	if got, want := f.bar(j, now), "/a [█████████|·········] 50%  0.50 CPU  1m00s left  ON_PLAN"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestTheBarIsFoundAgainInANarrowerWindow(t *testing.T) {
	t.Parallel()
	width := 60
	f := follower{live: true, drawn: 50, size: func() int { return width }}
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
	wg.Go(func() { n.watchdog(ctx, "20000", "") })
	if got := read(); got != "WATCHDOG=1" {
		t.Error(got)
	}
	cancel()
	wg.Wait()
	n.watchdog(t.Context(), "20000", "1") // meant for another process
	n.watchdog(t.Context(), "", "")
	if err := (&notifier{}).send("x"); err != nil {
		t.Error(err)
	}
}
