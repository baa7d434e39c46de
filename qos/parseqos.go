package qos

import (
	"fmt"
	"slices"
	"strings"
)

// qosExample is the block that a file without one is pointed to.
const qosExample = `"qos": {"duration": 400, "desv_deadline": 0.2, "deadline": 1800}`

// maxCount bounds executions and max_failures, maxWeight the weight.
const (
	maxCount  = 1_000_000
	maxWeight = 1_000_000
)

// InPlace says whether the job's containers are the framework's own, which the agent only finds and resizes.
func (q QoS) InPlace() bool {
	return q.Elasticity == ElasticityInPlace || q.IterationsBy == IterationsByChronos
}

// qosKeys are the keys of a qos block, in the order of docs/jobs.md.
func qosKeys() []string {
	return []string{
		"duration", "desv_deadline", "deadline", "executions", "max_failures", "min_cpus", "max_cpus", "weight",
		"iterations_by", "elasticity", "policy",
	}
}

// readQoS reads the qos block of a job file and checks all that can be checked without the rest of the file.
func (f *file) readQoS(root *node, framework Framework) QoS {
	block := root.get("qos")
	if block == nil {
		f.missing(root, "qos", "is missing: without it there is no quality of service to keep", "add "+qosExample)
		return QoS{}
	}
	if block.kind != kindObject {
		f.refuse(block, "is "+string(block.kind)+" where an object is expected", "write "+qosExample)
		return QoS{}
	}
	meant := map[string]bool{}
	for _, m := range block.members {
		if slices.Contains(qosKeys(), m.key) {
			continue
		}
		remedy := "the keys are " + strings.Join(qosKeys(), ", ")
		if guess := f.suggest(m.key, qosKeys()); guess != "" {
			meant[guess] = true
			remedy = fmt.Sprintf("did you mean %s?", guess)
		}
		f.refuse(m.value, "is no key of the qos block", remedy)
	}
	for _, required := range []struct{ key, remedy string }{
		{"duration", `add the CPU seconds that one run needs: "duration": 400`},
		{"desv_deadline", `add the deviation that you tolerate, as a fraction: "desv_deadline": 0.2 is 20 %`},
		{"deadline", `add the time in which it must be done, in seconds: "deadline": 1800`},
	} {
		if block.get(required.key) == nil && !meant[required.key] {
			f.missing(block, required.key, "is missing", required.remedy)
		}
	}
	q := QoS{
		Duration: f.qosDuration(block.get("duration")), Deviation: f.qosDeviation(block.get("desv_deadline")),
		Deadline:   f.qosDeadline(block.get("deadline")),
		Executions: f.qosCount(block.get("executions")), MaxFailures: f.qosCount(block.get("max_failures")),
		MinCPUs: f.qosCPUs(block.get("min_cpus")), MaxCPUs: f.qosCPUs(block.get("max_cpus")), Weight: f.qosWeight(block.get("weight")),
		IterationsBy: IterationsBy(f.qosChoice(block.get("iterations_by"), string(IterationsByAgent), string(IterationsByChronos))),
		Elasticity:   Elasticity(f.qosChoice(block.get("elasticity"), string(ElasticityAuto), string(ElasticityInPlace))),
		Policy:       f.qosChoice(block.get("policy"), f.opts.policies()...),
	}
	f.qosBounds(block, q)
	f.qosForFramework(block, &q, framework)
	return q
}

// qosForFramework refuses keys that are the other framework's, and those that contradict each other.
func (f *file) qosForFramework(block *node, q *QoS, framework Framework) {
	switch framework {
	case Chronos:
		if n := block.get("executions"); n != nil {
			f.refuse(n, "is for Marathon: a Chronos job's iterations are the R of its schedule", "remove it")
		}
		if q.Elasticity != ElasticityInPlace {
			return
		}
		if q.IterationsBy == IterationsByAgent {
			f.refuse(block.get("iterations_by"), "contradicts elasticity inplace, which leaves the containers with Chronos", `write "chronos", or remove elasticity`)
		}
		q.IterationsBy = IterationsByChronos
	case Marathon:
		if n := block.get("iterations_by"); n != nil {
			f.refuse(n, "is for Chronos: a Marathon job has executions, not iterations", "remove it")
		}
		if n := block.get("deadline"); n != nil && !q.Deadline.At.IsZero() && q.Executions != 1 {
			f.warn(n, "is a point in time, and Marathon starts an execution again when it ends: all after that time are late", `add "executions": 1, or give the deadline in seconds`)
		}
	}
}

// qosNumber reads a number of the qos block, reporting what is none.
func (f *file) qosNumber(n *node) (float64, bool) {
	if n == nil {
		return 0, false
	}
	if n.kind != kindNumber && n.kind != kindText {
		f.refuse(n, "is "+string(n.kind)+" where a number is expected", "write a decimal number, such as 1.5")
		return 0, false
	}
	value, err := parseNumber(n.text)
	if err != nil {
		f.refuseFault(n, err)
	}
	return value, err == nil
}

func (f *file) qosDuration(n *node) float64 {
	value, ok := f.qosNumber(n)
	if !ok {
		return 0
	}
	if err := checkSeconds(value); err != nil {
		f.refuseFault(n, err)
	}
	return value
}

func (f *file) qosDeviation(n *node) float64 {
	value, ok := f.qosNumber(n)
	switch {
	case !ok:
	case value >= 1 && value <= 100:
		f.refuse(n, "is not less than 1", fmt.Sprintf("it is a fraction: write %g for %g %%", value/100, value))
	case value < 0 || value >= 1:
		f.refuse(n, "is not a fraction from 0 to below 1", "write 0.2 for 20 %")
	}
	return value
}

func (f *file) qosDeadline(n *node) Deadline {
	if n == nil {
		return Deadline{}
	}
	if n.kind != kindNumber && n.kind != kindText {
		f.refuse(n, "is "+string(n.kind)+" where a deadline is expected", deadlineForms)
		return Deadline{}
	}
	deadline, err := ParseDeadline(n.text)
	if err != nil {
		f.refuseFault(n, err)
		return Deadline{}
	}
	if now := f.opts.Now; !deadline.At.IsZero() && !now.IsZero() {
		switch {
		case !deadline.At.After(now):
			f.refuse(n, "is past", "write a time to come, or seconds from the start")
		case deadline.At.Sub(now) > MaxTime:
			f.refuse(n, "is more than ten years away", "write a nearer time")
		}
	}
	return deadline
}

func (f *file) qosCount(n *node) int {
	value, ok := f.qosNumber(n)
	switch {
	case !ok:
	case value < 0:
		f.refuse(n, "is negative", "write how many, or 0 for no end")
	case value > maxCount:
		f.refuse(n, fmt.Sprintf("is more than %d", maxCount), "write 0 for no end")
	case !isInteger(value):
		f.refuse(n, "is not a whole number", "write how many, or 0 for no end")
	default:
		return int(value)
	}
	return 0
}

func (f *file) qosCPUs(n *node) float64 {
	value, ok := f.qosNumber(n)
	switch {
	case !ok:
	case value < 0:
		f.refuse(n, "is negative", "write a number of CPUs, such as 0.1")
	case value < 0.001:
		f.refuse(n, "is less than 0.001 CPUs", "leave it out for the configured bound")
	case value > maxCPUs:
		f.refuse(n, fmt.Sprintf("is more than %d CPUs", maxCPUs), "leave it out for the configured bound")
	}
	return value
}

func (f *file) qosWeight(n *node) float64 {
	value, ok := f.qosNumber(n)
	switch {
	case !ok:
	case value <= 0:
		f.refuse(n, "is not more than 0", "leave it out for a weight of 1, or write a fraction such as 0.1")
	case value > maxWeight:
		f.refuse(n, fmt.Sprintf("is more than %d", maxWeight), "weights are compared with each other, and 1 is the default")
	}
	return value
}

// qosChoice reads a text that must be one of a few.
func (f *file) qosChoice(n *node, choices ...string) string {
	if n == nil {
		return ""
	}
	text, ok := f.text(n)
	if ok && slices.Contains(choices, text) {
		return text
	}
	if guess := nearest(text, choices); ok && guess != "" {
		f.refuse(n, "is none of "+strings.Join(choices, ", "), fmt.Sprintf("did you mean %s?", guess))
		return ""
	}
	f.refuse(n, "is none of "+strings.Join(choices, ", "), "write one of them, or leave it out")
	return ""
}

// qosBounds compares the bounds of the allocation with each other, the configured ones standing in for those not given.
func (f *file) qosBounds(block *node, q QoS) {
	lowNode, highNode := block.get("min_cpus"), block.get("max_cpus")
	low, high := q.MinCPUs, q.MaxCPUs
	switch {
	case lowNode != nil && lowNode.bad, highNode != nil && highNode.bad:
	case lowNode != nil && highNode != nil && low > high:
		f.refuse(lowNode, fmt.Sprintf("is more than max_cpus, %g", high), "swap the two")
	case lowNode != nil && highNode == nil && f.opts.MaxCPUs > 0 && low > f.opts.MaxCPUs:
		f.refuse(lowNode, fmt.Sprintf("is more than the configured max_cpus, %g", f.opts.MaxCPUs), "add a max_cpus")
	case highNode != nil && lowNode == nil && f.opts.MinCPUs > 0 && high < f.opts.MinCPUs:
		f.refuse(highNode, fmt.Sprintf("is less than the configured min_cpus, %g", f.opts.MinCPUs), "add a min_cpus")
	}
}

// checkRequest warns of a request that lies outside of the bounds that the block itself gives.
func (f *file) checkRequest(request *node, cpus float64, q QoS) {
	if request == nil || request.bad {
		return
	}
	switch {
	case q.MaxCPUs > 0 && cpus > q.MaxCPUs:
		f.warn(request, fmt.Sprintf("is more than qos.max_cpus, %g: Mesos reserves CPUs that the job is never given", q.MaxCPUs), "request at most max_cpus")
	case q.MinCPUs > 0 && cpus < q.MinCPUs:
		f.warn(request, fmt.Sprintf("is less than qos.min_cpus, %g: the job always borrows", q.MinCPUs), "request at least min_cpus")
	}
}
