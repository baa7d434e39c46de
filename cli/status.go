package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"qosctl/agent/api"
	"qosctl/qos"
)

type statusOpts struct {
	job  string
	form form
}

func newStatusCmd(a *app) *cobra.Command {
	var o statusOpts
	cmd := &cobra.Command{
		Use:   "status JOB",
		Short: "Show a job: its progress, CPUs, runs and account",
		Long:  "Show a job. JOB is its name, its ID, or a prefix of one of them that no other job has.",
		Example: `  qosctl status linpack1
  qosctl status 1b4e28ba -o yaml`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeJobs(1, true),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			o.job = args[0]
			return a.runStatus(cmd.Context(), o)
		}),
	}
	addForm(cmd, &o.form)
	return cmd
}

func (a *app) runStatus(ctx context.Context, o statusOpts) error {
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	j, err := findJob(ctx, c, o.job)
	if err != nil {
		return err
	}
	return o.form.print(a.out, j, func(w io.Writer) error {
		now := time.Now()
		if err := table(w, statusRows(j, now)...); err != nil {
			return err
		}
		if err := runsTable(w, j.Runs, now); err != nil {
			return err
		}
		return accountTable(w, j.Account)
	})
}

func statusRows(j api.Job, now time.Time) []string {
	rows := []string{
		row("Job:", j.Name),
		row("ID:", j.ID),
		row("Framework:", string(j.Framework)+tenantText(j)),
		row("Phase:", phaseText(j)),
	}
	rows = append(rows, asideRows(j)...)
	if j.Outcome != "" {
		rows = append(rows, row("Outcome:", string(j.Outcome)))
	}
	if !j.Phase.Terminal() {
		rows = append(rows,
			row("State:", stateText(j)),
			row("Progress:", fmt.Sprintf("%s: %.1f of %.1f CPU s%s", doneText(j), j.Progress, j.QoS.Duration, desiredText(j))),
			row("CPUs:", fmt.Sprintf("%s given, %s requested, %s used, %s needed, %s of periods throttled",
				cores(j.Allocation), cores(j.Request), cores(j.Usage), cores(j.Need), percent(j.Throttled))))
	}
	rows = append(rows,
		row("QoS:", qosText(j.QoS)),
		row("Submitted:", moment(j.Submitted, now)),
		row("Started:", moment(j.Started, now)),
		row("Deadline:", deadlineText(j, now)))
	if !j.Prediction.IsZero() && !j.Phase.Terminal() {
		rows = append(rows, row("Predicted:", moment(j.Prediction, now)))
	}
	if !j.Ended.IsZero() {
		rows = append(rows, row("Ended:", moment(j.Ended, now)))
	}
	t := j.Tally
	rows = append(rows,
		row("Runs:", fmt.Sprintf("%d succeeded, %d failed, %d met, %d missed; %.1f CPU s, %d resizes", t.Succeeded, t.Failed, t.Met, t.Missed, t.CPU, t.Resizes)),
		row("Policy:", j.Policy),
		row("Node:", fmt.Sprintf("%s (epoch %d)", orDash(j.Owner), j.Epoch)))
	if j.Container != "" {
		rows = append(rows, row("Container:", j.Container))
	}
	return rows
}

// asideRows say that a job is on hold, away, or on its way.
func asideRows(j api.Job) (rows []string) {
	if j.Held != "" && !j.Phase.Terminal() {
		rows = append(rows, row("On hold:", j.Held+"; nothing is decided about it"))
	}
	if j.Away != "" {
		rows = append(rows, row("Away:", "node "+j.Away+", which has it, does not answer; this is what it last told"))
	}
	if j.Moving != "" {
		rows = append(rows, row("Moving:", "to node "+j.Moving))
	}
	return rows
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func tenantText(j api.Job) string {
	if j.Tenant == "" {
		return ""
	}
	return " (" + j.Tenant + ")"
}

func phaseText(j api.Job) string {
	if j.Reason == "" {
		return string(j.Phase)
	}
	return string(j.Phase) + ": " + j.Reason
}

func stateText(j api.Job) string {
	if j.State == "" {
		return ""
	}
	text := fmt.Sprintf("%s (ratio %.2f)", verdict(j, time.Now()), j.Ratio)
	if j.ThesisState != "" && j.ThesisState != j.State {
		text += ", by the thesis' rule " + string(j.ThesisState)
	}
	return text
}

func desiredText(j api.Job) string {
	if j.Desired <= 0 {
		return ""
	}
	return fmt.Sprintf(", %.1f desired by now", j.Desired)
}

func deadlineText(j api.Job, now time.Time) string {
	if j.Deadline.IsZero() {
		return j.QoS.Deadline.String() + ", counted from its start"
	}
	if l := left(j, now); l != "" {
		return moment(j.Deadline, now) + " (" + l + " left)"
	}
	return moment(j.Deadline, now)
}

func qosText(q qos.QoS) string {
	text := fmt.Sprintf("%g CPU s within %s, deviation %s", q.Duration, q.Deadline, percent(q.Deviation))
	if q.Executions > 0 {
		text += fmt.Sprintf(", %d executions", q.Executions)
	}
	if q.MinCPUs > 0 || q.MaxCPUs > 0 {
		text += fmt.Sprintf(", CPUs %g to %g", q.MinCPUs, q.MaxCPUs)
	}
	if q.Weight > 0 {
		text += fmt.Sprintf(", weight %g", q.Weight)
	}
	return text
}

func runsTable(w io.Writer, runs []qos.Run, now time.Time) error {
	if len(runs) == 0 {
		return nil
	}
	rows := []string{"", row("RUN", "STARTED", "TOOK", "CPU S", "MEAN CPUS", "MOST", "RESIZES", "EXIT", "OUTCOME", "REASON")}
	for _, r := range runs {
		rows = append(rows, row(strconv.Itoa(r.Index), moment(r.Started, now), span(r.Ended.Sub(r.Started)), fmt.Sprintf("%.1f", r.CPU),
			cores(r.MeanCPUs), cores(r.MaxCPUs), strconv.Itoa(r.Resizes), strconv.Itoa(r.ExitCode), string(r.Outcome), r.Reason))
	}
	return table(w, rows...)
}

// accountTable shows whose cgroup each incarnation's CPU time was read from.
func accountTable(w io.Writer, account *qos.Account) error {
	if account == nil || len(account.Entries) == 0 {
		return nil
	}
	rows := []string{"", row("INCARNATION", "NODE", "CONTAINER", "COUNTED IN", "CGROUP", "BASE", "OWN", "BORROWED")}
	for _, i := range account.Incarnations() {
		e := account.Entries[i]
		rows = append(rows, row(strconv.Itoa(i.N), e.Node, e.Container, e.StatContainer, e.Cgroup, span(e.Base), span(e.Own), span(e.Borrowed)))
	}
	return table(w, rows...)
}
