package agent

import (
	"testing"

	"qosctl/qos"
)

// What Mesos sold a job is what its task was launched with, whatever the framework is told since, and never more than it was asked for.
func TestRequest(t *testing.T) {
	t.Parallel()
	j := newJob(row{Record: qos.Record{Spec: qos.Spec{CPUs: 1}}})
	for _, c := range []struct {
		name          string
		known, claims float64
		want          float64
	}{
		{"as submitted", 0, 1, 1},
		{"nobody says", 0, 0, 1},
		{"lowered since its launch", 0.5, 1, 1},
		{"launched after it was lowered", 0.5, 0.5, 0.5},
		{"raised since its launch", 2, 1, 1},
		{"a stand-in that makes itself greater", 0, 4096, 1},
		{"a negative one", 0, -3, 1},
	} {
		j.steward().Request, j.row.Local.Tasks = c.known, nil
		j.addTask(task{ID: "t", CPUs: j.sold(c.claims)})
		if got := j.request(); got != c.want {
			t.Errorf("%s: %g, want %g", c.name, got, c.want)
		}
	}
}
