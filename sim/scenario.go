package sim

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"qosctl/qos"
)

//go:embed scenarios/*.yaml
var shipped embed.FS

// Bounds of a scenario: what is larger is a mistake, or would not end.
const (
	maxNodes    = 1000
	maxJobs     = 1000
	maxRuns     = 1000
	maxScenario = 1 << 20 // bytes of a file
)

// Enforcement says what an allocation means to the kernel.
type Enforcement string

// Quota is a hard limit (CFS quota); Shares is a weight, and idle CPUs may be used by anybody.
const (
	Quota  Enforcement = "quota"
	Shares Enforcement = "shares"
)

// Span is a length of time in seconds. In YAML it is written with its unit: 45s, 30m.
type Span float64

// UnmarshalYAML reads a duration with a unit.
func (s *Span) UnmarshalYAML(n *yaml.Node) error {
	d, err := time.ParseDuration(n.Value)
	if err != nil || n.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: %q is no duration: write it with its unit, as in 45s", n.Line, n.Value)
	}
	*s = Span(d.Seconds())
	return nil
}

// MarshalYAML writes what UnmarshalYAML reads.
func (s Span) MarshalYAML() (any, error) {
	return time.Duration(float64(s) * float64(time.Second)).String(), nil
}

// Range is a pair from which a figure is drawn, uniformly: [low, high]. A single figure stands for itself.
type Range [2]float64

// UnmarshalYAML reads a figure or a list of two.
func (r *Range) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		if err := n.Decode(&r[0]); err != nil {
			return err
		}
		r[1] = r[0]
		return nil
	}
	var list []float64
	if err := n.Decode(&list); err != nil {
		return err
	}
	if len(list) != 2 {
		return fmt.Errorf("line %d: a range has two figures, the least and the greatest", n.Line)
	}
	*r = Range{list[0], list[1]}
	return nil
}

// Scenario is a cluster and what it has to do. docs/control.md lists its keys.
type Scenario struct {
	Name        string      `yaml:"name"`
	About       string      `yaml:"about"`
	Nodes       Nodes       `yaml:"nodes"`
	Enforcement Enforcement `yaml:"enforcement"` // quota (default) or shares
	Iterations  string      `yaml:"iterations"`  // warm (default): by the agent; chronos: a launch each
	Borrow      string      `yaml:"borrow"`      // idle (default) or none
	Resize      string      `yaml:"resize"`      // auto (default): step and step-code by a restart, others in place; inplace; reschedule
	Placement   string      `yaml:"placement"`   // hints (default): policy deadline places by gossiped headroom; random
	Period      Span        `yaml:"period"`      // of the control loop; default 5s
	Offers      Span        `yaml:"offers"`      // between two rounds of offers; default 1s
	Deployment  Deployment  `yaml:"deployment"`
	Noise       Noise       `yaml:"noise"`
	Checkpoint  Checkpoint  `yaml:"checkpoint"`
	Crashes     float64     `yaml:"crashes"` // probability that a job crashes once, at any point of its work
	History     int         `yaml:"history"` // runs of each job's name that were seen before
	MinCPUs     float64     `yaml:"min_cpus"`
	MaxCPUs     float64     `yaml:"max_cpus"`
	Background  Background  `yaml:"background"`
	Jobs        []Job       `yaml:"jobs"`
	Random      *Random     `yaml:"random"`
	Horizon     Span        `yaml:"horizon"` // the simulation ends; default four times the last deadline
}

// Nodes are the cluster's nodes, all alike.
type Nodes struct {
	Count int     `yaml:"count"`
	CPUs  float64 `yaml:"cpus"`
}

// Deployment is the time from a task's launch to the start of its run.
type Deployment struct {
	Mean     Span    `yaml:"mean"`
	Spread   float64 `yaml:"spread"`   // standard deviation of its logarithm
	Gap      Span    `yaml:"gap"`      // between two warm iterations; default 500ms
	Declared *Span   `yaml:"declared"` // what the controller believes (control.deploy_time); default the mean
}

// Noise is how the runs of a job differ from its declaration and from each other.
type Noise struct {
	Run        float64 `yaml:"run"`        // standard deviation of the logarithm of a run's work
	Stragglers float64 `yaml:"stragglers"` // probability of a run that takes longer
	By         Range   `yaml:"by"`         // by how much; default [1.2, 1.5]
	Declared   Range   `yaml:"declared"`   // the declared duration over the true one, for jobs that don't give theirs; default 1
}

// Checkpoint is what saving and moving cost.
type Checkpoint struct {
	Every   Span `yaml:"every"`   // 0: no periodic ones; a job that crashes begins its run anew
	Freeze  Span `yaml:"freeze"`  // for each; default 500ms
	Restart Span `yaml:"restart"` // from a crash, or from a stop for a move, until the process runs again; default 15s
}

// Background is CPU time of others: containers that Mesos has sold CPUs to, on some of the nodes, on and off.
type Background struct {
	Nodes int     `yaml:"nodes"` // on the first so many nodes
	CPUs  float64 `yaml:"cpus"`  // sold to and used by them while they are there
	On    Span    `yaml:"on"`    // mean length of their stay; exponential
	Off   Span    `yaml:"off"`   // and of the time between
}

// Job is one job of a scenario, or several of the same kind.
type Job struct {
	Name       string  `yaml:"name"`
	Framework  string  `yaml:"framework"` // chronos (default) or marathon
	Count      int     `yaml:"count"`     // so many of them; default 1
	Iterations int     `yaml:"iterations"`
	Duration   float64 `yaml:"duration"` // qos.duration, CPU seconds; 0: drawn by noise.declared
	Serial     float64 `yaml:"serial"`   // CPU seconds of a run that one CPU alone can work at
	Parallel   float64 `yaml:"parallel"` // CPU seconds of a run that all its threads can work at
	Threads    int     `yaml:"threads"`  // default: max_cpus, rounded up
	Size       float64 `yaml:"size"`     // matrix order, for size_spread: the work grows with its cube
	SizeSpread float64 `yaml:"size_spread"`
	Deadline   Span    `yaml:"deadline"`
	Deviation  float64 `yaml:"desv_deadline"` // default 0.2
	CPUs       float64 `yaml:"cpus"`          // request
	Weight     float64 `yaml:"weight"`
	Arrive     Span    `yaml:"arrive"`
}

// Random draws jobs.
type Random struct {
	Jobs       int     `yaml:"jobs"`
	Framework  string  `yaml:"framework"`  // chronos (default) or marathon
	Work       Range   `yaml:"work"`       // CPU seconds of the whole job; uniform, or clip of the ln-normal below
	Mu         float64 `yaml:"mu"`         // of ln(work); 0: uniform in work
	Sigma      float64 `yaml:"sigma"`      // of ln(work)
	Iterations Range   `yaml:"iterations"` // runs that the work is divided into; default 1
	Parallel   Range   `yaml:"parallel"`   // share of the work that is parallel
	Tightness  Range   `yaml:"tightness"`  // deadline over the time that it takes alone; with tight_to: work, over its CPU seconds
	TightTo    string  `yaml:"tight_to"`   // ideal (default): with max_cpus; work
	CPUs       Range   `yaml:"cpus"`       // request; default 1
	Arrive     Range   `yaml:"arrive"`     // seconds
	Deviation  float64 `yaml:"desv_deadline"`
}

// Shipped names the scenarios that come with qosctl.
func Shipped() []string {
	files, err := fs.Glob(shipped, "scenarios/*.yaml")
	if err != nil {
		return nil
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(path.Base(f), ".yaml")
	}
	slices.Sort(files)
	return files
}

// ErrNotShipped says that no shipped scenario has that name.
var ErrNotShipped = errors.New("no such scenario is shipped")

// Ship returns a shipped scenario.
func Ship(name string) (*Scenario, error) {
	if !slices.Contains(Shipped(), name) {
		return nil, fmt.Errorf("scenario %q: %w: one of %s, or a file", name, ErrNotShipped, strings.Join(Shipped(), ", "))
	}
	f, err := shipped.Open("scenarios/" + name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("read scenario %s: %w", name, err)
	}
	defer f.Close()
	return Read(f)
}

// Read reads a scenario from YAML, strictly: a key that is not known is an error, as is a figure that can't be.
func Read(r io.Reader) (*Scenario, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxScenario+1))
	if err != nil {
		return nil, fmt.Errorf("read scenario: %w", err)
	}
	if len(data) > maxScenario {
		return nil, fmt.Errorf("read scenario: it is larger than %d bytes", maxScenario)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	var s Scenario
	if err := decoder.Decode(&s); err != nil {
		return nil, fmt.Errorf("read scenario: %w", err)
	}
	if err := decoder.Decode(new(Scenario)); !errors.Is(err, io.EOF) {
		return nil, errors.New("read scenario: it has more than one document")
	}
	s.fill()
	if err := s.validate(); err != nil {
		return nil, fmt.Errorf("scenario %s: %w", s.Name, err)
	}
	return &s, nil
}

// fill puts defaults where nothing was given.
func (s *Scenario) fill() {
	def(&s.Enforcement, Quota)
	def(&s.Iterations, "warm")
	def(&s.Borrow, "idle")
	def(&s.Resize, "auto")
	def(&s.Placement, "hints")
	def(&s.Period, 5)
	def(&s.Offers, 1)
	def(&s.Deployment.Gap, 0.5)
	def(&s.Noise.By, Range{1.2, 1.5})
	def(&s.Noise.Declared, Range{1, 1})
	def(&s.Checkpoint.Freeze, 0.5)
	def(&s.Checkpoint.Restart, 15)
	def(&s.MinCPUs, 0.1)
	def(&s.MaxCPUs, s.Nodes.CPUs)
	if s.Deployment.Declared == nil {
		s.Deployment.Declared = &s.Deployment.Mean
	}
	for i := range s.Jobs {
		j := &s.Jobs[i]
		def(&j.Framework, string(qos.Chronos))
		def(&j.Count, 1)
		def(&j.Iterations, 1)
		def(&j.CPUs, 1)
		def(&j.Deviation, 0.2)
		def(&j.Threads, int(math.Ceil(min(max(s.MaxCPUs, 1), 1024))))
	}
	if r := s.Random; r != nil {
		def(&r.Framework, string(qos.Chronos))
		def(&r.Iterations, Range{1, 1})
		def(&r.CPUs, Range{1, 1})
		def(&r.TightTo, "ideal")
		def(&r.Deviation, 0.2)
	}
}

func def[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}
