package monasca

import (
	"strings"
	"time"

	"qosctl/qos"
)

// Job is what is measured of one job at one moment. A figure that is not known is left at its zero value.
type Job struct {
	ID        string // UUID
	Name      string
	Framework qos.Framework
	Image     string // of its container; "": none
	Left      int    // Chronos: iterations that are not done
	Deadline  time.Time
	Ended     []Run // ended since the last measurement, oldest first

	Running    bool // it has a container now; what follows is of its present execution
	Prediction time.Time
	Allocation float64       // CPUs
	Progress   float64       // CPU seconds that the process state embodies
	Desired    float64       // CPU seconds, equation 2
	Ratio      float64       // equation 3
	User       time.Duration // CPU time in user mode, of all incarnations
	System     time.Duration // and in the kernel
}

// Run is an ended execution or iteration.
type Run struct {
	Started, Ended time.Time
	CPU            float64 // CPU seconds consumed
}

// defaultTicks is USER_HZ on every Linux that is in use.
const defaultTicks = 100

// Node is where jobs are measured.
type Node struct {
	Name  string // host name
	Ticks int    // USER_HZ: ticks a second, in which CPU times of containers are given; 0: defaultTicks
}

// Measure turns jobs' figures into measurements, under the thesis' names and dimensions. It is pure. Times are epoch seconds, spans and
// CPU times seconds, but for container.cpu.*, which are ticks, as Monasca's agent sends them.
func Measure(n Node, jobs []Job, at time.Time) []Measurement {
	list := make([]Measurement, 0, 10*len(jobs))
	for _, j := range jobs {
		list = j.runs(list)
		list = j.present(list, at)
		list = n.container(list, j, at)
	}
	return list
}

// dimensions are the thesis' of a job. A Marathon id begins with a slash, which its users did not write.
func (j Job) dimensions() map[string]string {
	return map[string]string{"jobname": strings.TrimPrefix(j.Name, "/"), "framework": string(j.Framework), "uuid": j.ID}
}

// runs appends what is said once, of each ended run, at its end.
func (j Job) runs(list []Measurement) []Measurement {
	for _, r := range j.Ended {
		add := appender(&list, j.dimensions(), r.Ended)
		add("timestamp_finished", epoch(r.Ended))
		add("last_job_duration", r.Ended.Sub(r.Started).Seconds())
		if j.Framework == qos.Marathon {
			add("current_cputime_accumulated", r.CPU)
		}
	}
	return list
}

// present appends how the job stands now.
func (j Job) present(list []Measurement, at time.Time) []Measurement {
	add := appender(&list, j.dimensions(), at)
	if j.Framework == qos.Chronos {
		add("remaining_iterations", float64(j.Left))
	}
	if !j.Running {
		return list
	}
	add("current_cpu", j.Allocation)
	if !j.Deadline.IsZero() {
		add("deadline", epoch(j.Deadline))
	}
	if !j.Prediction.IsZero() {
		add("prediction_deadline", epoch(j.Prediction))
	}
	if !j.Prediction.IsZero() && !j.Deadline.IsZero() {
		add("prediction_vs_deadline", j.Prediction.Sub(j.Deadline).Seconds())
	}
	if j.Framework == qos.Marathon {
		add("current_cputime_accumulated", j.Progress)
		add("desired_cputime_accumulated", j.Desired)
		add("marathon_ratio_progress", j.Ratio)
		add("marathon_cputime_current_vs_desired", j.Desired-j.Progress)
	}
	return list
}

// container appends what the Docker plugin of Monasca's agent said of the job's container, whose name is the job's UUID.
func (n Node) container(list []Measurement, j Job, at time.Time) []Measurement {
	if !j.Running || j.User+j.System <= 0 {
		return list
	}
	tick := time.Second / time.Duration(defaultTicks)
	if n.Ticks > 0 {
		tick = time.Second / time.Duration(n.Ticks)
	}
	add := appender(&list, map[string]string{"hostname": n.Name, "name": j.ID, "image": j.Image}, at)
	add("container.cpu.user_time", float64(j.User/tick))
	add("container.cpu.system_time", float64(j.System/tick))
	return list
}

func appender(list *[]Measurement, dimensions map[string]string, at time.Time) func(string, float64) {
	return func(name string, value float64) {
		*list = append(*list, Measurement{Name: name, Dimensions: dimensions, At: at, Value: value})
	}
}

func epoch(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
