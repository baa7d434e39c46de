package chronos

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"qosctl/devmesos/node"
)

// Status takes a task's status update.
func (c *Core) Status(now time.Time, st node.Status) {
	r := c.running[st.TaskID]
	if r == nil {
		return // of a deleted job, or one that was given up as lost
	}
	r.state = st.State
	switch st.State {
	case node.Staging, node.Starting, node.Running, node.Killing:
		return
	}
	delete(c.running, st.TaskID)
	c.changed = true
	j := c.store[r.job]
	if j == nil {
		return
	}
	switch st.State {
	case node.Finished:
		c.succeeded(j, now)
	case node.Failed, node.Lost:
		c.failed(j, r.attempt, now)
	}
	if len(c.queue) > 0 && c.nextOffer.After(now) {
		c.nextOffer = now // the resources are offered again
	}
}

func (c *Core) succeeded(j *Job, now time.Time) {
	j.SuccessCount++
	j.ErrorsSinceLastSuccess = 0
	j.LastSuccess = now.UTC().Format(stamp)
	c.changed = true
	if s, ok := parseSchedule(j.Schedule, j.zone(), now); ok && j.scheduled() && s.repeat == 0 {
		j.Disabled = true
	}
	c.fireChildren(j.Name, now)
}

func (c *Core) failed(j *Job, attempt int, now time.Time) {
	if attempt < j.Retries && (j.LastError == "" || j.LastSuccess >= j.LastError) {
		c.retries = append(c.retries, queued{job: j.Name, due: now.Add(failureRetry), attempt: attempt + 1})
		return
	}
	j.ErrorCount++
	j.ErrorsSinceLastSuccess++
	j.LastError = now.UTC().Format(stamp)
	j.Disabled = false
	c.changed = true
	if j.SoftError {
		c.fireChildren(j.Name, now)
	}
}

// fireChildren queues the jobs of which all parents have now run since their own last run.
func (c *Core) fireChildren(parent string, now time.Time) {
	for _, name := range c.order {
		child := c.store[name]
		if !c.graph[name] || !slices.Contains(child.Parents, parent) {
			continue
		}
		if c.done[name] == nil {
			c.done[name] = map[string]int{}
		}
		c.done[name][parent]++
		if slices.ContainsFunc(child.Parents, func(p string) bool { return c.done[name][p] == 0 }) {
			continue
		}
		for _, p := range child.Parents {
			c.done[name][p]--
		}
		if !child.Disabled {
			c.enqueue(queued{job: name, due: now}, now)
		}
	}
}

// lost counts a run that a former life has left.
func (c *Core) lost(taskID string, now time.Time) {
	if job, attempt, ok := splitTaskID(taskID); ok && c.store[job] != nil {
		c.failed(c.store[job], attempt, now)
	}
}

// resume takes back a run that a former life has left, and that goes on.
func (c *Core) resume(taskID string) {
	if job, attempt, ok := splitTaskID(taskID); ok && c.store[job] != nil {
		c.running[taskID] = &run{job: job, attempt: attempt, state: node.Running, lasting: true}
	}
}

// splitTaskID reads ct:<due>:<attempt>:<job>:<arguments>.
func splitTaskID(id string) (job string, attempt int, ok bool) {
	parts := strings.SplitN(id, ":", 5)
	if len(parts) != 5 || parts[0] != "ct" {
		return "", 0, false
	}
	attempt, err := strconv.Atoi(parts[2])
	return parts[3], attempt, err == nil
}
