package sim

import "qosctl/qos"

// Trace is what the figures of one seed are drawn from.
type Trace struct {
	Jobs []*Track
}

// Track is the course of one job. Times are seconds from the start of the simulation.
type Track struct {
	Job             string
	Framework       qos.Framework
	Begin, Deadline float64
	Deviation       float64
	Looks           []Look
	Runs            []Lap
	at              *job
}

// Look is what a decision said of a job, and what it changed.
type Look struct {
	At         float64
	Node       string
	Prediction float64 // seconds after the deadline that equation 1 or the model predicts; negative: before
	Ratio      float64 // equation 3
	Desired    float64 // equation 2, CPU seconds
	Consumed   float64 // CPU seconds
	Allocation float64 // CPUs from now on
	Need       float64
	State      qos.State
	Rule       string
	Reason     string
}

// Lap is one ended run.
type Lap struct {
	Node       string
	Begin, End float64
	CPUs       float64 // mean allocation
}

// track is a job's track; a nil trace has none.
func (t *Trace) track(j *job) *Track {
	if t == nil {
		return nil
	}
	for _, k := range t.Jobs {
		if k.at == j {
			return k
		}
	}
	k := &Track{
		Job: j.spec.Name, Framework: j.spec.Framework, Begin: j.arrive, Deadline: j.deadline,
		Deviation: j.spec.QoS.Deviation, at: j,
	}
	t.Jobs = append(t.Jobs, k)
	return k
}

// end notes an ended run.
func (t *Trace) end(k *cluster, j *job) {
	if c := t.track(j); c != nil {
		c.Runs = append(c.Runs, Lap{j.node.name, j.began, k.now, j.granted / max(j.held, 1e-9)})
	}
}

// decided notes a decision.
func (t *Trace) decided(k *cluster, j *job, d qos.Decision) {
	c := t.track(j)
	if c == nil {
		return
	}
	node := ""
	if j.node != nil {
		node = j.node.name
	}
	done := 0.0
	for i := range min(j.run, len(j.factors)) {
		done += j.work(i)
	}
	if j.run < len(j.factors) {
		done += j.done * j.work(j.run)
	}
	c.Looks = append(c.Looks, Look{
		At: k.now, Node: node, Prediction: secondsOf(d.Prediction) - j.deadline, Ratio: d.Ratio, Desired: d.Desired,
		Consumed: done, Allocation: d.To, Need: d.Need, State: d.ThesisState, Rule: d.Rule, Reason: d.Reason,
	})
}
