package qos

import "fmt"

// nonePolicy changes nothing; it still says how each job stands.
type nonePolicy struct{ params Params }

// Name is PolicyNone.
func (nonePolicy) Name() string { return PolicyNone }

// Decide leaves every job what it has.
func (p nonePolicy) Decide(n NodeView) []Decision {
	out := make([]Decision, 0, len(n.Jobs))
	for _, v := range n.Jobs {
		d := look(v, n.Now, p.params).decision(v, n.Now, p.Name())
		d.Rule = "none"
		d.Reason = fmt.Sprintf("the policy leaves the allocation at %.2f CPUs; %.2f are needed", d.From, d.Need)
		out = append(out, d)
	}
	return out
}
