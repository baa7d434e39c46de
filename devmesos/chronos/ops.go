package chronos

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"
)

// valid checks a new job; Chronos does not check a replacement that well.
func (c *Core) valid(j *Job, isNew bool, now time.Time) error {
	if isNew && !nameForm.MatchString(j.Name) {
		return badRequest("the job's name is invalid. Allowed names: '%s'", nameText)
	}
	if math.Abs(j.CPUs) > 1e6 || math.Abs(j.Mem) > 1e9 {
		return badRequest("requirement failed: cpus or mem out of range")
	}
	if !j.scheduled() {
		return nil
	}
	s, ok := parseSchedule(j.Schedule, j.zone(), now)
	if !ok {
		return badRequest("Cannot parse schedule '%s' (wtf bro)", j.Schedule)
	}
	if isNew && s.start.Year() < 1970 {
		return badRequest("Scheduled start date '%s' is before 1970!", s.start.UTC().Format(stamp))
	}
	if isNew && len(j.URIs) > 0 && len(j.Fetch) > 0 {
		return badRequest("Tried to add both uri (deprecated) and fetch parameters on %s", j.Name)
	}
	return nil
}

// Post creates a job, which the main loop will notice in a moment, or replaces one, at once and as a whole, counters included.
func (c *Core) Post(j *Job, now time.Time) error {
	old := c.store[j.Name]
	if err := c.valid(j, old == nil, now); err != nil {
		return err
	}
	c.store[j.Name] = j
	c.changed = true
	if old == nil {
		c.order = append(c.order, j.Name)
		c.wakeAt(now.Add(graphDelay)) // a replacement wakes nobody
	}
	return nil
}

// find looks in the graph.
func (c *Core) find(name string) (*Job, error) {
	if !c.graph[name] || c.store[name] == nil {
		return nil, notFound(name)
	}
	return c.store[name], nil
}

// Start queues a run by hand.
func (c *Core) Start(name string, now time.Time) error {
	if _, err := c.find(name); err != nil {
		return err
	}
	c.enqueue(queued{job: name, due: now}, now)
	return nil
}

// Kill ends all runs of a job.
func (c *Core) Kill(name string) error {
	if _, err := c.find(name); err != nil {
		return err
	}
	for id, r := range c.running {
		if r.job == name {
			c.cluster.Kill(frameworkName, id)
		}
	}
	return nil
}

// Delete removes a job: its runs are killed, its children get its parents.
func (c *Core) Delete(name string) error {
	j, err := c.find(name)
	if err != nil {
		return err
	}
	if err := c.Kill(name); err != nil {
		return err
	}
	for _, child := range c.store {
		if !slices.Contains(child.Parents, name) {
			continue
		}
		child.Parents = slices.DeleteFunc(child.Parents, func(p string) bool { return p == name })
		for _, p := range j.Parents {
			if !slices.Contains(child.Parents, p) {
				child.Parents = append(child.Parents, p)
			}
		}
		if len(child.Parents) == 0 { // was the last one: the child takes over its schedule
			child.Schedule, child.ScheduleTimeZone = j.Schedule, j.ScheduleTimeZone
		}
	}
	c.drop(name)
	return nil
}

// apiError is an answer other than success.
type apiError struct {
	status  int
	message string
}

func (e *apiError) Error() string { return e.message }

func badRequest(format string, args ...any) error {
	return &apiError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// notFound is a 400, for Chronos has no 404 for jobs; the message is Java's stack trace.
func notFound(name string) error {
	return badRequest("java.lang.IllegalArgumentException: requirement failed: Job '%s' not found\n\tat scala.Predef$.require(Predef.scala:224)\n"+
		"\tat org.apache.mesos.chronos.scheduler.api.JobManagementResource.trigger(JobManagementResource.scala:162)\n", name)
}
