package cli

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"qosctl/agent/api"
	"qosctl/qos"
)

// topJob shows one job's life.
type topJob struct {
	*topView

	ref  string
	told bool // the head of the plain lines was printed
}

func (t *topJob) look(ctx context.Context, c *api.Client) (text string, over bool, err error) {
	j, err := findJob(ctx, c, t.ref)
	if err != nil {
		return "", false, err
	}
	t.ref = j.ID
	h, err := c.History(ctx, j.ID, time.Time{})
	if api.IsStatus(err, http.StatusNotFound) {
		err = withHint(fmt.Errorf("the agent that has %s keeps no history", j.Name), "it is of an older version; `qosctl status` shows how the job stands now")
	}
	if err != nil {
		return "", false, err
	}
	now := time.Now()
	if !t.live {
		return t.line(j, h, now), j.Phase.Terminal(), nil
	}
	x, err := c.Explain(ctx, j.ID)
	if err != nil {
		return "", false, err
	}
	width, height := t.size()
	return t.redraw(jobText(j, h, x, now, width, height)), j.Phase.Terminal(), nil
}

// line is one look at a job where there is no terminal, below a head that says what its figures are.
func (t *topJob) line(j api.Job, h api.History, now time.Time) string {
	head := ""
	if !t.told {
		head = fmt.Sprintf("%-8s  %-10s %-17s %7s %10s %10s %7s %7s %7s %9s\n", "TIME", "PHASE", "STATE", "RATIO", "USED", "DESIRED", "CPUS", "USES", "NEED", "MARGIN")
		t.told = true
	}
	margin := "-"
	if n := len(h.Margin); n > 0 && j.Phase == qos.PhaseRunning {
		margin = span(lasting(h.Margin[n-1]))
	}
	return head + fmt.Sprintf("%-8s  %-10s %-17s %7.2f %10.1f %10.1f %7.2f %7.2f %7.2f %9s\n",
		now.Local().Format(time.TimeOnly), j.Phase, orDash(standing(j, now)), j.Ratio, lastOf(h.Used), j.Desired, j.Allocation, j.Usage, j.Need, margin)
}

func lasting(v float32) time.Duration {
	return time.Duration(float64(v) * float64(time.Second))
}

func lastOf(v []float32) float32 {
	if len(v) == 0 {
		return 0
	}
	return v[len(v)-1]
}

// Of jobText: the widths of the columns beside a line.
const (
	labelWidth = 24
	valueWidth = 10
	rangeWidth = 20
)

// jobText is a job's page in a terminal.
func jobText(j api.Job, h api.History, x api.Explanation, now time.Time, width, height int) string {
	var b strings.Builder
	fmt.Fprintln(&b, j.Name+"  "+strings.Join(nonEmpty(string(j.Phase), standing(j, now), whereabouts(j), figuresText(j, now)), "  "))
	if j.Reason != "" {
		fmt.Fprintln(&b, j.Reason)
	}
	room := max(10, width-labelWidth-valueWidth-rangeWidth-4)
	fmt.Fprintln(&b, drawBar(max(10, width-rangeWidth-6), done(j), elapsed(j, now)))
	fmt.Fprintln(&b)
	number := func(v float32) string {
		if v > 1e6 {
			return "∞"
		}
		return fmt.Sprintf("%.2f", v)
	}
	whole := func(v float32) string { return fmt.Sprintf("%.0f s", v) }
	apart := func(v float32) string { return span(lasting(v)) }
	most := 2 * max(highest(h.Allocation), highest(h.Usage)) // of CPUs: a need may have no bound
	for _, r := range []struct {
		label     string
		values    []float32
		show      func(float32) string
		low, high float32 // the same: as the values have them
	}{
		{"progress ratio", h.Ratio, number, 0, 0},
		{"prediction − deadline", h.Margin, apart, 0, 0},
		{"CPU time used", h.Used, whole, 0, max(highest(h.Used), highest(h.Desired))},
		{"CPU time desired", h.Desired, whole, 0, max(highest(h.Used), highest(h.Desired))},
		{"CPUs allocated", h.Allocation, number, 0, min(most, max(most/2, highest(h.Need)))},
		{"CPUs used", h.Usage, number, 0, min(most, max(most/2, highest(h.Need)))},
		{"CPUs needed", h.Need, number, 0, min(most, max(most/2, highest(h.Need)))},
	} {
		if len(r.values) > 0 && r.low == r.high {
			r.low, r.high = ends(r.values)
		}
		writeLine(&b, r.label, overTime(h.At, r.values, room, r.low, r.high), r.values, r.show)
	}
	if n := len(h.At); n > 0 {
		from, to := moment(time.UnixMilli(h.At[0]), now), moment(time.UnixMilli(h.At[n-1]), now)
		fmt.Fprintf(&b, "%*s%s%*s\n", labelWidth+valueWidth+2, "", from, max(1, room-len(from)), to)
	}
	runText(&b, h.Runs, room)
	decisionText(&b, x, now, height-strings.Count(b.String(), "\n")-2)
	return b.String()
}

func nonEmpty(list ...string) (out []string) {
	for _, s := range list {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// writeLine is a label, the last value, the line, and from where to where it goes.
func writeLine(b *strings.Builder, label, line string, values []float32, show func(float32) string) {
	if len(values) == 0 {
		return
	}
	low, high := ends(values)
	fmt.Fprintf(b, "%s%s  %s  %s … %s\n", label+strings.Repeat(" ", max(1, labelWidth-len([]rune(label)))), leftPad(show(values[len(values)-1]), valueWidth), line, show(low), show(high))
}

func leftPad(s string, n int) string { return strings.Repeat(" ", max(0, n-len([]rune(s)))) + s }

func highest(values []float32) float32 {
	if len(values) == 0 {
		return 0
	}
	return slices.Max(values)
}

func ends(values []float32) (low, high float32) {
	low, high = values[0], values[0]
	for _, v := range values {
		low, high = min(low, v), max(high, v)
	}
	return low, high
}

// overTime draws values between low and high as a line of so many places, even in time; where nothing was read it is empty.
func overTime(at []int64, values []float32, width int, low, high float32) string {
	if len(at) == 0 || len(values) != len(at) { // of an agent that lacks that figure
		return strings.Repeat(" ", width)
	}
	line, first, last := []rune(strings.Repeat(" ", width)), at[0], at[len(at)-1]
	for i, t := range at {
		place := width - 1
		if last > first {
			place = int(float64(t-first) / float64(last-first) * float64(width-1))
		}
		line[place] = bar(float64(values[i]), float64(low), float64(high))
	}
	for i := 1; i < width; i++ { // readings are further apart than places: a line goes on, but not over a long silence
		if line[i] == ' ' && line[i-1] != ' ' && !silent(at, i, width) {
			line[i] = line[i-1]
		}
	}
	return string(line)
}

// silent says whether at a place of a line no reading is near.
func silent(at []int64, place, width int) bool {
	first, last := at[0], at[len(at)-1]
	t := first + int64(float64(place)/float64(width-1)*float64(last-first))
	near := 3 * (last - first) / int64(max(1, len(at)-1))
	for _, a := range at {
		if a-t < near && t-a < near {
			return false
		}
	}
	return true
}

// bar is one of eight heights.
func bar(v, low, high float64) rune {
	bars := []rune("▁▂▃▄▅▆▇█")
	if high <= low {
		return bars[3]
	}
	return bars[min(7, max(0, int((v-low)/(high-low)*7+0.5)))]
}

// runText shows duration and CPU time of the ended runs.
func runText(b *strings.Builder, runs []api.PastRun, room int) {
	if len(runs) == 0 {
		return
	}
	runs = runs[max(0, len(runs)-room):]
	lasted, spent := make([]float32, len(runs)), make([]float32, len(runs))
	for i, r := range runs {
		lasted[i], spent[i] = float32(r.Seconds), r.CPU
	}
	draw := func(values []float32) string {
		_, high := ends(values)
		line := make([]rune, len(values))
		for i, v := range values {
			line[i] = bar(float64(v), 0, float64(high))
		}
		return string(line) + strings.Repeat(" ", room-len(values))
	}
	whole := func(v float32) string { return fmt.Sprintf("%.1f s", v) }
	fmt.Fprintln(b)
	label := fmt.Sprintf("runs %d to %d: ", runs[0].Index, runs[len(runs)-1].Index)
	writeLine(b, label+"time", draw(lasted), lasted, whole)
	writeLine(b, strings.Repeat(" ", len(label))+"CPU time", draw(spent), spent, whole)
}

// decisionText shows the last decisions, as many as there is room for.
func decisionText(b *strings.Builder, x api.Explanation, now time.Time, room int) {
	list := x.Decisions[max(0, len(x.Decisions)-max(0, room)):]
	if len(list) == 0 {
		return
	}
	fmt.Fprintln(b)
	for _, d := range slices.Backward(list) {
		fmt.Fprintf(b, "%s  %s  %s\n", moment(d.At, now), d.Rule, d.Reason)
	}
}
