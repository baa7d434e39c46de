package sim

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"qosctl/qos"
)

// Figure is one drawing.
type Figure struct {
	Name string // of a file: letters, digits and dashes, without its suffix
	SVG  []byte
}

// Record simulates one seed under one policy and keeps its course.
func Record(ctx context.Context, s *Scenario, policy string, p qos.Params, seed uint64) (*Trace, error) {
	t := &Trace{}
	if _, err := s.seed(ctx, policy, p, seed, t); err != nil {
		return nil, fmt.Errorf("simulate %s: %w", s.Name, err)
	}
	slices.SortFunc(t.Jobs, func(a, b *Track) int { return cmp.Compare(a.Job, b.Job) })
	return t, nil
}

// Figures draws the thesis' figures 21 to 31 for a run: of Chronos jobs the prediction against the deadline (21, 28) and CPUs and
// duration of each iteration (22 to 27), of Marathon jobs the progress ratio (29) and the CPU time used and desired (30), of all the
// CPUs allotted (31).
func (t *Trace) Figures() []Figure {
	var out []Figure
	var chronos []*Track
	for _, j := range t.Jobs {
		if j.Framework == qos.Chronos {
			chronos = append(chronos, j)
			out = append(out, Figure{"iterations-" + fileName(j.Job), j.iterations().svg()})
		} else {
			out = append(out, Figure{"ratio-" + fileName(j.Job), j.ratio().svg()},
				Figure{"cpu-time-" + fileName(j.Job), j.cpuTime().svg()})
		}
		out = append(out, Figure{"allocation-" + fileName(j.Job), j.allocation().svg()})
	}
	if len(chronos) > 0 {
		out = append([]Figure{{"prediction", prediction(chronos).svg()}}, out...)
	}
	return out
}

// fileName keeps what may stand in a file's name.
func fileName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, s)
}

// prediction is figure 21: red above 95 % of the time allowed, yellow below 1 − desv_deadline of it, green between.
func prediction(jobs []*Track) chart {
	c := chart{title: "Prediction − deadline (figures 21, 28)", x: "time (s)", y: "prediction − deadline (s)"}
	end := 0.0
	for _, j := range jobs {
		k := curve{name: j.Job}
		for _, l := range j.Looks {
			if l.At <= j.Deadline {
				k.points = append(k.points, point{l.At, l.Prediction})
				end = max(end, l.At)
			}
		}
		c.curves = append(c.curves, k)
	}
	allowed := jobs[0].Deadline - jobs[0].Begin
	const far = 1e9
	upper, lower := -0.05*allowed, -jobs[0].Deviation*allowed
	c.bands = []band{{0, end, upper, far, red}, {0, end, lower, upper, green}, {0, end, -far, lower, yellow}}
	return c
}

// iterations is one of the figures 22 to 27.
func (j *Track) iterations() chart {
	c := chart{title: j.Job + ": CPUs and duration of each iteration (figures 22 to 27)", x: "iteration", y: "duration (s)", rightLabel: "CPUs allotted (mean)"}
	bars, cpus := curve{name: "duration", bars: true}, curve{name: "CPUs"}
	for i, r := range j.Runs {
		bars.points = append(bars.points, point{float64(i + 1), r.End - r.Begin})
		cpus.points = append(cpus.points, point{float64(i + 1), r.CPUs})
	}
	c.curves, c.right = []curve{bars}, &cpus
	c.bands = []band{{0, float64(len(j.Runs) + 1), 0, 0, "none"}}
	return c
}

// ratio is figure 29: red below 1 − desv_deadline, yellow above 1 + desv_deadline, green between.
func (j *Track) ratio() chart {
	c := chart{title: j.Job + ": progress ratio (figure 29)", x: "time (s)", y: "progress ratio"}
	k := curve{name: "progress ratio"}
	end := j.Begin
	for _, l := range j.Looks {
		k.points = append(k.points, point{l.At, min(l.Ratio, 3)})
		end = max(end, l.At)
	}
	c.curves = []curve{k}
	const far = 1e9
	c.bands = []band{
		{j.Begin, end, 0, 1 - j.Deviation, red},
		{j.Begin, end, 1 - j.Deviation, 1 + j.Deviation, green},
		{j.Begin, end, 1 + j.Deviation, far, yellow},
	}
	return c
}

// cpuTime is figure 30.
func (j *Track) cpuTime() chart {
	c := chart{title: j.Job + ": CPU time used and desired (figure 30)", x: "time (s)", y: "CPU seconds"}
	used, desired := curve{name: "used"}, curve{name: "desired"}
	for _, l := range j.Looks {
		used.points = append(used.points, point{l.At, l.Consumed})
		desired.points = append(desired.points, point{l.At, l.Desired})
	}
	c.curves = []curve{used, desired}
	return c
}

// allocation is figure 31.
func (j *Track) allocation() chart {
	c := chart{title: j.Job + ": CPUs allotted (figure 31)", x: "time (s)", y: "CPUs"}
	k := curve{name: "allotted", steps: true}
	need := curve{name: "needed"}
	for _, l := range j.Looks {
		k.points = append(k.points, point{l.At, l.Allocation})
		need.points = append(need.points, point{l.At, l.Need})
	}
	c.curves = []curve{k, need}
	return c
}
