package history

import (
	"slices"
	"time"

	"qosctl/agent/api"
	"qosctl/qos"
)

// View is the history in the API's form: the readings of the whole life up to where the late ones begin, then those. With after, what is
// later than that; the runs are always all of them.
func (h *History) View(job string, after time.Time) api.History {
	v := api.History{
		Job: job, Since: h.since(), At: []int64{}, Ratio: []float32{}, Used: []float32{}, Consumed: []float32{}, Desired: []float32{},
		Allocation: []float32{}, Usage: []float32{}, Need: []float32{}, Margin: []float32{}, State: []qos.State{}, Late: []bool{}, Index: []int{},
		Changes: []api.Change{}, Runs: []api.PastRun{},
	}
	old := h.whole
	if len(h.late) > 0 {
		end := slices.IndexFunc(h.whole, func(p reading) bool { return p.At >= h.late[0].At })
		if end >= 0 {
			old = h.whole[:end]
		}
	}
	for _, list := range [][]reading{old, h.late} {
		for _, p := range list {
			if t := h.time(p.At); t.After(after) {
				add(&v, p, t)
			}
		}
	}
	for _, c := range h.changes {
		if t := h.time(c.At); t.After(after) {
			v.Changes = append(v.Changes, api.Change{At: t, Phase: word(phases, c.Phase), Node: h.nodeName(c.Node), Index: int(c.Index), Incarnation: int(c.Part)})
		}
	}
	for _, r := range h.runs {
		v.Runs = append(v.Runs, api.PastRun{
			Index: int(r.Index), Started: h.time(r.At), Seconds: float64(r.Tenths) / 10, CPU: r.CPU, MeanCPUs: r.Mean, Outcome: word(outcomes, r.Outcome), Incarnations: int(r.Parts),
		})
	}
	return v
}

func add(v *api.History, p reading, t time.Time) {
	v.At = append(v.At, t.UnixMilli())
	v.Ratio, v.Margin = append(v.Ratio, p.Ratio), append(v.Margin, p.Margin)
	v.Used, v.Consumed, v.Desired = append(v.Used, p.Used), append(v.Consumed, p.Consumed), append(v.Desired, p.Desired)
	v.Allocation, v.Usage, v.Need = append(v.Allocation, p.Allocation), append(v.Usage, p.Usage), append(v.Need, p.Need)
	v.State, v.Late = append(v.State, word(states, p.State&^lateBit)), append(v.Late, p.State&lateBit != 0)
	v.Index = append(v.Index, int(p.Index))
}
