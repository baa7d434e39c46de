package agent

import (
	"testing"

	"qosctl/qos"
)

// The task that a move has brought starts its next iteration, though nobody has seen yet that the move is done; the one that it is to end does not.
func TestTheTaskThatAMoveHasBroughtGoesOn(t *testing.T) {
	t.Parallel()
	a := &Agent{}
	j := newJob(row{Record: qos.Record{Spec: qos.Spec{Framework: qos.Chronos}}})
	j.row.Local.Move = &move{State: moveSent, Node: "n1", Task: "t1"}
	if !a.atBoundary(j, "t1") || a.atBoundary(j, "t2") {
		t.Errorf("t1 stops: %v, t2 stops: %v", a.atBoundary(j, "t1"), a.atBoundary(j, "t2"))
	}
}
