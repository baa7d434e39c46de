package agent

import (
	"net/http"
	"strings"

	"qosctl/agent/api"
	"qosctl/qos"
)

// A hold keeps agents from deciding and moving: of one job, of a node, or of the whole cluster. It is a mark of the table, or of the
// store in an agent that is alone, and stands over restarts until it is taken away.

// Scopes of a hold, as marks.
const (
	holdAll  = "hold/all"
	holdNode = "hold/node/"
	holdJob  = "hold/job/"
	drainKey = "drain/"
)

// marks are what was marked in the cluster.
func (a *Agent) marks() map[string]string {
	if a.cluster != nil {
		return a.cluster.mesh.Marks()
	}
	return a.store.marks()
}

// mark sets a mark; "" takes it away.
func (a *Agent) mark(key, value string) error {
	if a.cluster != nil {
		return a.cluster.mesh.Mark(key, value)
	}
	return a.store.mark(key, value)
}

// heldHere says in words why this node decides nothing; "": it does.
func (a *Agent) heldHere() string {
	m := a.marks()
	switch {
	case m[holdAll] != "":
		return "the cluster is on hold: " + m[holdAll]
	case m[holdNode+a.node] != "":
		return "node " + a.node + " is on hold: " + m[holdNode+a.node]
	}
	return ""
}

// heldJob says in words why nothing is decided about a job; "": it is.
func (a *Agent) heldJob(r qos.Record) string { return heldBy(a.marks(), r) }

func heldBy(m map[string]string, r qos.Record) string {
	switch {
	case m[holdAll] != "":
		return "the cluster is on hold: " + m[holdAll]
	case m[holdNode+r.Status.Owner] != "":
		return "node " + r.Status.Owner + " is on hold: " + m[holdNode+r.Status.Owner]
	case m[holdJob+r.Spec.ID] != "":
		return "it is on hold: " + m[holdJob+r.Spec.ID]
	}
	return ""
}

// draining says whether this node is being drained.
func (a *Agent) draining() bool { return a.marks()[drainKey+a.node] != "" }

// postHold puts something on hold, or lets it go on.
func (a *Agent) postHold(w http.ResponseWriter, r *http.Request) {
	var h api.Hold
	err := readBody(w, r, &h)
	key := ""
	if err == nil {
		key, err = a.holdKey(h)
	}
	if err == nil {
		value := ""
		if h.On {
			value = orElse(strings.TrimSpace(h.Reason), "by hand")
		}
		err = a.mark(key, value)
	}
	if err != nil {
		answerError(w, err)
		return
	}
	a.decideSoon()
	answer(w, http.StatusOK, a.holds())
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// maxReason bounds why something is done, in bytes: it is kept with the job, or told to all nodes.
const maxReason = 200

func boundReason(why string) error {
	if len(why) > maxReason {
		return refuse(codeInvalid, "reason: longer than %d bytes", maxReason)
	}
	return nil
}

func (a *Agent) holdKey(h api.Hold) (string, error) {
	if err := boundReason(h.Reason); err != nil {
		return "", err
	}
	switch {
	case h.All && h.Node == "" && h.Job == "":
		return holdAll, nil
	case h.Node != "" && !h.All && h.Job == "":
		if !nodeName.MatchString(h.Node) {
			return "", refuse(codeInvalid, "node: %q is no name of a node", h.Node)
		}
		return holdNode + h.Node, nil
	case h.Job != "" && !h.All && h.Node == "":
		j, err := a.jobs.find(h.Job)
		if err == nil {
			return holdJob + j.spec().ID, nil
		}
		if a.cluster != nil {
			if row, ok := a.findShared(h.Job, nil); ok {
				return holdJob + row.Spec.ID, nil
			}
		}
		return "", err
	}
	return "", refuse(codeInvalid, "want one of: all, a node, a job")
}

func (a *Agent) holds() api.Holds {
	list := api.Holds{Nodes: map[string]string{}, Jobs: map[string]string{}, Draining: map[string]string{}}
	for k, v := range a.marks() {
		switch {
		case k == holdAll:
			list.All = v
		case strings.HasPrefix(k, holdNode):
			list.Nodes[strings.TrimPrefix(k, holdNode)] = v
		case strings.HasPrefix(k, holdJob):
			list.Jobs[strings.TrimPrefix(k, holdJob)] = v
		case strings.HasPrefix(k, drainKey):
			list.Draining[strings.TrimPrefix(k, drainKey)] = v
		}
	}
	return list
}

func (a *Agent) getHolds(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, a.holds()) }
