package monasca

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/qos"
)

// flat shows measurements as lines.
func flat(list []Measurement) []string {
	var lines []string
	for _, m := range list {
		var dims []string
		for k, v := range m.Dimensions {
			dims = append(dims, k+"="+v)
		}
		slices.Sort(dims)
		lines = append(lines, fmt.Sprintf("%s{%s} %g @%d", m.Name, strings.Join(dims, ","), m.Value, m.At.Unix()-noon.Unix()))
	}
	return lines
}

func TestMeasureUnderTheNamesOfTheThesis(t *testing.T) {
	t.Parallel()
	at := noon.Truncate(time.Second)
	n := Node{Name: "node1", Ticks: 100}
	marathon := Job{
		ID: "u1", Name: "/openmplinpack1", Framework: qos.Marathon, Image: "serlophug/linpack", Running: true,
		Deadline: at.Add(480 * time.Second), Prediction: at.Add(450 * time.Second), Allocation: 1.4,
		Progress: 90, Desired: 100, Ratio: 0.9, User: 88*time.Second + 19*time.Millisecond, System: 2 * time.Second,
	}
	chronos := Job{
		ID: "u2", Name: "linpack2", Framework: qos.Chronos, Left: 3, Running: true, Deadline: at.Add(time.Minute), Prediction: at.Add(2 * time.Minute), Allocation: 0.5,
		Ended: []Run{{Started: at.Add(-400 * time.Second), Ended: at.Add(-10 * time.Second), CPU: 380}},
	}
	done := Job{ID: "u3", Name: "/a/b", Framework: qos.Marathon, Ended: []Run{{Started: at.Add(-20 * time.Second), Ended: at.Add(-5 * time.Second), CPU: 9.5}}}
	d1, d2, d3 := "{framework=marathon,jobname=openmplinpack1,uuid=u1}", "{framework=chronos,jobname=linpack2,uuid=u2}", "{framework=marathon,jobname=a/b,uuid=u3}"
	c1 := "{hostname=node1,image=serlophug/linpack,name=u1}"
	epoch := func(seconds int64) string { return fmt.Sprintf("%g", float64(at.Unix()+seconds)) }
	want := []string{
		"current_cpu" + d1 + " 1.4 @0",
		"deadline" + d1 + " " + epoch(480) + " @0",
		"prediction_deadline" + d1 + " " + epoch(450) + " @0",
		"prediction_vs_deadline" + d1 + " -30 @0",
		"current_cputime_accumulated" + d1 + " 90 @0",
		"desired_cputime_accumulated" + d1 + " 100 @0",
		"marathon_ratio_progress" + d1 + " 0.9 @0",
		"marathon_cputime_current_vs_desired" + d1 + " 10 @0",
		"container.cpu.user_time" + c1 + " 8801 @0",
		"container.cpu.system_time" + c1 + " 200 @0",
		"timestamp_finished" + d2 + " " + epoch(-10) + " @-10",
		"last_job_duration" + d2 + " 390 @-10",
		"remaining_iterations" + d2 + " 3 @0",
		"current_cpu" + d2 + " 0.5 @0",
		"deadline" + d2 + " " + epoch(60) + " @0",
		"prediction_deadline" + d2 + " " + epoch(120) + " @0",
		"prediction_vs_deadline" + d2 + " 60 @0",
		"timestamp_finished" + d3 + " " + epoch(-5) + " @-5",
		"last_job_duration" + d3 + " 15 @-5",
		"current_cputime_accumulated" + d3 + " 9.5 @-5",
	}
	got := Measure(n, []Job{marathon, chronos, done}, at)
	if diff := cmp.Diff(want, flat(got)); diff != "" {
		t.Error(diff)
	}
	for _, m := range got {
		if _, err := m.encode(noon); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatIsNotKnownIsNotSaid(t *testing.T) {
	t.Parallel()
	got := Measure(Node{}, []Job{{ID: "u", Framework: qos.Marathon}, {ID: "v", Framework: qos.Marathon, Running: true}}, noon)
	for _, m := range got {
		if strings.HasPrefix(m.Name, "prediction") || m.Name == "deadline" || strings.HasPrefix(m.Name, "container") || m.Dimensions["uuid"] == "u" {
			t.Errorf("said %s of %s", m.Name, m.Dimensions["uuid"])
		}
	}
}

func TestTicksOfAnotherKernel(t *testing.T) {
	t.Parallel()
	got := Measure(Node{Name: "n", Ticks: 1000}, []Job{{ID: "u", Running: true, User: 1500 * time.Millisecond}}, noon)
	if m := got[len(got)-2]; m.Name != "container.cpu.user_time" || m.Value != 1500 {
		t.Errorf("got %+v", m)
	}
	if m := got[len(got)-1]; m.Name != "container.cpu.system_time" || m.Value != 0 {
		t.Errorf("got %+v", m)
	}
}
