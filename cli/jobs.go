package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"qosctl/agent/api"
	"qosctl/qos"
)

type jobsOpts struct {
	all  bool
	form form
}

func newJobsCmd(a *app) *cobra.Command {
	var o jobsOpts
	cmd := &cobra.Command{
		Use:     "jobs",
		Aliases: []string{"ls"},
		Short:   "List jobs",
		Example: "  qosctl jobs\n  qosctl jobs --all\n  qosctl jobs -o json",
		Args:    args(cobra.NoArgs),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			return a.runJobs(cmd.Context(), o)
		}),
	}
	cmd.Flags().BoolVarP(&o.all, "all", "a", false, "also those that have ended")
	addForm(cmd, &o.form)
	return cmd
}

func (a *app) runJobs(ctx context.Context, o jobsOpts) error {
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	jobs, err := c.Jobs(ctx, o.all)
	if err != nil {
		return err
	}
	sortJobs(jobs)
	if jobs == nil {
		jobs = []api.Job{}
	}
	return o.form.print(a.out, jobs, func(w io.Writer) error {
		several, err := manyNodes(ctx, c, jobs)
		if err != nil {
			return err
		}
		return jobsTable(w, jobs, o.all, several)
	})
}

// manyNodes says whether the cluster has more than one node: jobs are shown with theirs then.
func manyNodes(ctx context.Context, c *api.Client, jobs []api.Job) (bool, error) {
	for _, j := range jobs {
		if j.Owner != jobs[0].Owner {
			return true, nil
		}
	}
	if len(jobs) == 0 {
		return false, nil
	}
	list, err := c.Nodes(ctx)
	if api.IsStatus(err, http.StatusNotFound) { // an agent of before there were clusters
		return false, nil
	}
	return len(list.Nodes) > 1, err
}

func jobsTable(w io.Writer, jobs []api.Job, all, nodes bool) error {
	if len(jobs) == 0 {
		text := "no live jobs; `qosctl jobs --all` lists those that have ended"
		if all {
			text = "no jobs"
		}
		_, err := fmt.Fprintln(w, text)
		return err
	}
	now := time.Now()
	head := []string{"NAME", "ID", "PHASE", "STATE", "DONE", "CPUS", "REQUEST", "DEADLINE", "LEFT"}
	if nodes {
		head = slices.Insert(head, 2, "NODE")
	}
	rows := []string{row(head...)}
	for _, j := range jobs {
		cells := []string{j.Name, shortID(j.ID), string(j.Phase), standing(j, now), doneText(j), allocation(j), cores(j.Request), moment(j.Deadline, now), left(j, now)}
		if nodes {
			cells = slices.Insert(cells, 2, whereabouts(j))
		}
		rows = append(rows, row(cells...))
	}
	return table(w, rows...)
}

// whereabouts is a job's node, that it does not answer, and where the job is on its way to.
func whereabouts(j api.Job) string {
	text := j.Owner
	if j.Away != "" {
		text += " (away)"
	}
	if j.Moving != "" {
		text += " → " + j.Moving
	}
	return text
}

// standing is a job's verdict, and that it is on hold.
func standing(j api.Job, now time.Time) string {
	v := verdict(j, now)
	switch {
	case j.Held == "" || j.Phase.Terminal():
		return v
	case v == "":
		return "held"
	}
	return v + " held"
}

// sortJobs puts the live ones first, then the newest.
func sortJobs(jobs []api.Job) {
	slices.SortStableFunc(jobs, func(a, b api.Job) int {
		if a.Phase.Terminal() != b.Phase.Terminal() {
			if a.Phase.Terminal() {
				return 1
			}
			return -1
		}
		if c := b.Submitted.Compare(a.Submitted); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
}

func shortID(id string) string { return id[:min(8, len(id))] }

// verdict is how a job stands, or how it ended.
func verdict(j api.Job, now time.Time) string {
	switch {
	case j.Phase.Terminal():
		return string(j.Outcome)
	case j.Late && j.Deadline.After(now): // the CPU time that was declared is used up, the time is not
		return string(j.State) + " overrun"
	case j.Late:
		return string(j.State) + " late"
	}
	return string(j.State)
}

// done is the share of a job's work that is done: of the present execution, or of all of a Chronos job's iterations.
func done(j api.Job) float64 {
	if j.QoS.Duration <= 0 {
		return 0
	}
	one := min(1, j.Progress/j.QoS.Duration)
	if j.Phase == qos.PhaseCompleted {
		return 1
	}
	if j.Iterations > 0 {
		if j.Phase == qos.PhaseEnded {
			one = 0 // it is among those that are counted, or did not succeed
		}
		return min(1, (float64(j.Tally.Succeeded)+one)/float64(j.Iterations))
	}
	return one
}

// doneText shows done, and of which run.
func doneText(j api.Job) string {
	switch {
	case j.Iterations > 0:
		return fmt.Sprintf("%s of %d", percent(done(j)), j.Iterations)
	case j.QoS.Executions > 1:
		return fmt.Sprintf("%s of %d/%d", percent(done(j)), max(1, j.Index), j.QoS.Executions)
	case j.Index > 1:
		return fmt.Sprintf("%s of #%d", percent(done(j)), j.Index)
	}
	return percent(done(j))
}

func allocation(j api.Job) string {
	if j.Phase != qos.PhaseRunning {
		return ""
	}
	return cores(j.Allocation)
}

// left is the time to the deadline, or the time that was left when the job ended.
func left(j api.Job, now time.Time) string {
	switch {
	case j.Deadline.IsZero():
		return ""
	case j.Phase.Terminal() && j.Ended.IsZero():
		return ""
	case j.Phase.Terminal():
		return span(j.Deadline.Sub(j.Ended))
	}
	return span(j.Deadline.Sub(now))
}
