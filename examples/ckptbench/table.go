package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// The limits that the project sets itself.
const (
	limitMiB    = 512                    // where plain Docker's share counts
	mostOfPlain = 0.20                   // of plain Docker's downtime
	mostOfBare  = 1.15                   // of bare runc's, and
	mostCreate  = 500 * time.Millisecond // what creating a container takes Docker
	mostLoad    = 4                      // above it no figure counts
	mostMoved   = 16 << 20               // bytes through Docker and containerd: no images are among them
	plainName   = "plain docker"
	bareName    = "bare runc"
)

// table is what was measured.
type table struct {
	release string
	sizes   []int
	ways    []string
	samples map[key][]sample
	load    float64 // the highest seen
}

// median of what of picks.
func median[T cmp.Ordered](list []sample, of func(sample) T) (m T) {
	if len(list) == 0 {
		return m
	}
	var all []T
	for _, s := range list {
		all = append(all, of(s))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func down(s sample) time.Duration { return s.down }

// print writes the table.
func (t table) print(out io.Writer) error {
	count := "the figures count"
	if t.load >= mostLoad {
		count = fmt.Sprintf("they DO NOT COUNT: above %d", mostLoad)
	}
	fmt.Fprintf(out, "\nstop and restore on one node of %s, medians; highest load %.1f (%s)\n", t.release, t.load, count)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "MiB\tway\tn\tdump\trestore\tdowntime\tof plain\tof runc\tthrough Docker\tcopied\ton disk\tverdict\t")
	for _, mib := range t.sizes {
		for _, name := range t.ways {
			list := t.samples[key{mib, name}]
			if len(list) == 0 {
				continue
			}
			fmt.Fprintf(w, "%d\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", mib, name, len(list),
				short(median(list, func(s sample) time.Duration { return s.dump })), short(median(list, func(s sample) time.Duration { return s.restore })),
				short(median(list, down)), t.ratio(mib, name, plainName), t.ratio(mib, name, bareName),
				mebi(median(list, func(s sample) int64 { return s.moved })), mebi(median(list, func(s sample) int64 { return s.again })),
				mebi(median(list, func(s sample) int64 { return s.disk })), t.verdict(mib, name))
		}
	}
	return w.Flush()
}

func short(d time.Duration) string { return d.Round(time.Millisecond).String() }
func mebi(n int64) string          { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// of is a way's downtime; false: it was not measured.
func (t table) of(mib int, name string) (time.Duration, bool) {
	list := t.samples[key{mib, name}]
	return median(list, down), len(list) > 0
}

func (t table) ratio(mib int, name, other string) string {
	a, _ := t.of(mib, name)
	b, ok := t.of(mib, other)
	if !ok || b <= 0 || name == other {
		return "-"
	}
	return fmt.Sprintf("%.2f", float64(a)/float64(b))
}

// verdict holds one of our drivers against the limits.
func (t table) verdict(mib int, name string) string {
	if name == plainName || name == bareName {
		return ""
	}
	took, _ := t.of(mib, name)
	text := ""
	fault := func(over bool, what string) {
		if over {
			text += "OVER: " + what + " "
		}
	}
	if p, ok := t.of(mib, plainName); ok && mib == limitMiB {
		fault(float64(took) > mostOfPlain*float64(p), fmt.Sprintf("%.2f of plain Docker", mostOfPlain))
	}
	if b, ok := t.of(mib, bareName); ok {
		fault(float64(took) > mostOfBare*float64(b)+float64(mostCreate), fmt.Sprintf("%.2f of bare runc + %s", mostOfBare, mostCreate))
	}
	list := t.samples[key{mib, name}]
	fault(median(list, func(s sample) int64 { return s.again }) > 0, "images were copied")
	fault(median(list, func(s sample) int64 { return s.moved }) > mostMoved, "images went through Docker")
	if text == "" {
		return "ok"
	}
	return text[:len(text)-1]
}
