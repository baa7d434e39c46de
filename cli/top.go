package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"qosctl/agent/api"
	"qosctl/qos"
)

type topOpts struct {
	job      string // "": all
	interval time.Duration
	count    int
}

func newTopCmd(a *app) *cobra.Command {
	var o topOpts
	cmd := &cobra.Command{
		Use:   "top [JOB]",
		Short: "Show nodes and jobs live, or one job's life",
		Long: `Show the node, its peers and the jobs live: on a terminal in place, with the CPUs that each job used lately as a line; else as
one table after the other. Ctrl-C ends it.

With a job, show its figures over its life as lines: progress ratio, prediction against the deadline, CPU time used and desired, CPUs
allocated, used and needed, duration and CPU time of its runs, and the last decisions. Without a terminal, one line for each look. It
ends when the job has. The agent's page draws the same (its address is the configuration's listen).`,
		Example:           "  qosctl top\n  qosctl top --interval 5s\n  qosctl top --count 1\n  qosctl top linpack1",
		Args:              args(cobra.MaximumNArgs(1)),
		ValidArgsFunction: a.completeJobs(1, true),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.job = args[0]
			}
			return a.runTop(cmd.Context(), o)
		}),
	}
	cmd.Flags().DurationVarP(&o.interval, "interval", "i", 2*time.Second, "time between two looks")
	cmd.Flags().IntVarP(&o.count, "count", "n", 0, "end after so many looks; 0: never")
	return cmd
}

func (a *app) runTop(ctx context.Context, o topOpts) error {
	if o.interval < 100*time.Millisecond || o.count < 0 {
		return &usageError{fmt.Errorf("--interval must be at least 100ms and --count must not be negative (got %s and %d)", o.interval, o.count), ""}
	}
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	_, live := terminalWidth(a.out)
	t := &topView{live: live, size: func() (int, int) { return terminalSize(a.out) }, history: make(map[string][]float64)}
	look := t.look
	if o.job != "" {
		look = (&topJob{topView: t, ref: o.job}).look
	}
	again := newBackoff(o.interval, max(o.interval, 5*time.Second))
	for n := 1; ; n++ {
		text, over, err := look(ctx, c)
		switch {
		case errors.Is(err, api.ErrUnreachable) && n > 1 && again.elapsed() < giveUpAfter:
			if err := again.wait(ctx); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		again.reset()
		if _, err := io.WriteString(a.out, text); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		if over || n == o.count {
			return nil
		}
		if err := sleep(ctx, o.interval); err != nil {
			if live {
				fmt.Fprintln(a.out) // the terminal has put ^C there
			}
			return err
		}
	}
}

// topView remembers what is needed to redraw.
type topView struct {
	live    bool
	size    func() (width, height int)
	width   int                  // of the terminal, last time
	height  int                  // the same
	drawn   int                  // lines drawn last time
	history map[string][]float64 // CPUs used, by job, oldest first
}

// sparkWidth is how many looks a line of lately used CPUs has.
const sparkWidth = 24

func (t *topView) look(ctx context.Context, c *api.Client) (text string, over bool, err error) {
	node, err := c.Node(ctx)
	if err != nil {
		return "", false, err
	}
	jobs, err := c.Jobs(ctx, false)
	if err != nil {
		return "", false, err
	}
	sortJobs(jobs)
	nodes, err := c.Nodes(ctx)
	if err != nil && !api.IsStatus(err, http.StatusNotFound) { // an agent of before there were clusters
		return "", false, err
	}
	holds, err := c.Holds(ctx)
	if err != nil && !api.IsStatus(err, http.StatusNotFound) { // an agent of before there were holds
		return "", false, err
	}
	var b strings.Builder
	fmt.Fprint(&b, holdText(holds))
	if err := t.draw(&b, node, jobs, nodes.Nodes, time.Now()); err != nil {
		return "", false, err
	}
	return t.shown(b.String()), false, nil
}

// shown is a text as it is to be written: in the place of the last, or after it.
func (t *topView) shown(text string) string {
	if !t.live {
		return text + "\n"
	}
	return t.redraw(text)
}

// redraw is what puts text in the place of what was drawn last time. Where that is nobody knows in a terminal that has changed its size
// meanwhile: then all of it is cleared.
func (t *topView) redraw(text string) string {
	width, height := t.size()
	text = fit(text, width, height-1)
	to := ""
	switch {
	case t.drawn > 0 && (width != t.width || height != t.height):
		to = "\x1b[H\x1b[2J"
	case t.drawn > 0:
		to = fmt.Sprintf("\x1b[%dA", t.drawn)
	}
	t.width, t.height, t.drawn = width, height, strings.Count(text, "\n")
	return to + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J"
}

// holdText says in a line that the cluster or nodes are on hold, or are being drained; "": none is.
func holdText(h api.Holds) string {
	var parts []string
	if h.All != "" {
		parts = append(parts, "the cluster is on hold: "+h.All)
	}
	for _, n := range slices.Sorted(maps.Keys(h.Nodes)) {
		parts = append(parts, "node "+n+" is on hold: "+h.Nodes[n])
	}
	for _, n := range slices.Sorted(maps.Keys(h.Draining)) {
		parts = append(parts, "node "+n+" is being drained: "+h.Draining[n])
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, "; ") + "\n"
}

func (t *topView) draw(w io.Writer, n api.Node, jobs []api.Job, peers []api.Peer, now time.Time) error {
	fmt.Fprintf(w, "%s  %s  %s CPUs: %s allocated, %s free, %s reserved  policy %s, %s\n",
		n.Name, now.Local().Format(time.TimeOnly), cores(n.CPUs), cores(n.Allocated), cores(n.Headroom), cores(n.Reserve), n.Policy, n.Mode)
	nodes := len(peers) > 1
	if nodes {
		if err := table(w, peerRows(peers)...); err != nil {
			return err
		}
	}
	head := []string{"NAME", "PHASE", "STATE", "DONE", "USED", "CPUS", "NEED", "THROTTLED", "LEFT", "CPUS USED LATELY"}
	if nodes {
		head = slices.Insert(head, 1, "NODE")
	}
	rows := []string{row(head...)}
	seen := make(map[string]bool)
	for _, j := range jobs {
		seen[j.ID] = true
		t.history[j.ID] = append(t.history[j.ID], j.Usage)
		t.history[j.ID] = t.history[j.ID][max(0, len(t.history[j.ID])-sparkWidth):]
		used, need, throttled := "", "", ""
		if j.Phase == qos.PhaseRunning {
			used, need, throttled = cores(j.Usage), cores(j.Need), percent(j.Throttled)
		}
		cells := []string{j.Name, string(j.Phase), standing(j, now), doneText(j), used, allocation(j), need, throttled, left(j, now), spark(t.history[j.ID])}
		if nodes {
			cells = slices.Insert(cells, 1, whereabouts(j))
		}
		rows = append(rows, row(cells...))
	}
	for id := range t.history {
		if !seen[id] {
			delete(t.history, id)
		}
	}
	if len(jobs) == 0 {
		_, err := fmt.Fprintln(w, "no live jobs")
		return err
	}
	return table(w, rows...)
}

// peerRows are the nodes of a cluster, each with what its jobs were given as a bar.
func peerRows(peers []api.Peer) []string {
	rows := []string{""}
	for _, p := range peers {
		note := ""
		switch {
		case p.State != "alive":
			note = p.State
		case p.Draining != "":
			note = "draining"
		case p.Held != "":
			note = "held"
		}
		used := 0.0
		if p.CPUs > 0 {
			used = p.Allocated / p.CPUs
		}
		rows = append(rows, row(p.Name, drawBar(20, used, -1), cores(p.Allocated)+" of "+cores(p.CPUs)+" CPUs", cores(p.Headroom)+" free", fmt.Sprintf("%d jobs", p.Jobs), note))
	}
	return append(rows, "")
}

// spark draws values as bars of eight heights, the greatest as high as can be.
func spark(values []float64) string {
	const bars = "▁▂▃▄▅▆▇█"
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	var b strings.Builder
	for _, v := range values {
		i := 0
		if most > 0 {
			i = min(7, max(0, int(v/most*7+0.5)))
		}
		b.WriteString(string([]rune(bars)[i]))
	}
	return b.String()
}

// fit cuts lines to a width, and says how many there are beyond a height instead of showing them.
func fit(text string, width, height int) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if height = max(2, height); len(lines) > height {
		lines = append(lines[:height-1], fmt.Sprintf("and %d more", len(lines)-height+1))
	}
	for i, l := range lines {
		if r := []rune(l); len(r) > width {
			lines[i] = string(r[:width])
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

// terminalSize is the columns and lines of the terminal that w is.
func terminalSize(w io.Writer) (width, height int) {
	width, live := terminalWidth(w)
	if f, ok := w.(*os.File); ok && live {
		if _, height, err := term.GetSize(int(f.Fd())); err == nil && height > 0 {
			return width, height
		}
	}
	return width, 24
}
