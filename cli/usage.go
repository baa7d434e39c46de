package cli

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"qosctl/agent/api"
)

// sheet is the flag -o of what can be a table for other programs.
type sheet form

func (f *sheet) String() string { return string(*f) }

// Type is what the help shows as the flag's value.
func (f *sheet) Type() string { return "form" }

// Set takes a flag's value.
func (f *sheet) Set(s string) error {
	if s == formCSV {
		*f = formCSV
		return nil
	}
	if (*form)(f).Set(s) != nil {
		return errors.New("must be table, csv, json or yaml")
	}
	return nil
}

type usageOpts struct {
	by, since, until string
	form             sheet
}

func newUsageCmd(a *app) *cobra.Command {
	o := usageOpts{form: formTable}
	cmd := &cobra.Command{
		Use:   "usage",
		Short: "Tell what jobs have used, by tenant, job or day",
		Long: `Tell what the runs used that have ended, of all nodes of the cluster: CPU seconds consumed, requested (what the framework had sold),
borrowed (of those consumed, above the request), lost (of those consumed, what came to nothing: spent after a checkpoint that was gone
back to, or in runs that failed) and overhead (of restores themselves, beside the others). A run counts on the day that it ended, in UTC,
once, at the node that booked its end. It is kept for 400 days. MET and MISSED are deadlines: of Marathon executions, and of whole Chronos
series.`,
		Example: `  qosctl usage
  qosctl usage --by job --since 7d
  qosctl usage --by day --since 2026-01-01 --until 2026-01-31 -o csv`,
		Args: args(cobra.NoArgs),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			return a.runUsage(cmd.Context(), o)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.by, "by", api.UsageByTenant, "tenant, job or day")
	f.StringVar(&o.since, "since", "30d", "first day, as 2026-01-31, or how many days: 7d is the last seven, today among them")
	f.StringVar(&o.until, "until", "", "last day, as 2026-01-31 (default today)")
	f.VarP(&o.form, "output", "o", "table, csv, json or yaml")
	for flag, values := range map[string][]string{"by": {api.UsageByTenant, api.UsageByJob, api.UsageByDay}, "output": {formTable, formCSV, formJSON, formYAML}} {
		if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
			panic(err) // the flag was made a few lines above
		}
	}
	return cmd
}

func (a *app) runUsage(ctx context.Context, o usageOpts) error {
	since, err := dayOf("since", o.since, time.Now())
	until, err2 := dayOf("until", o.until, time.Now())
	if err := errors.Join(err, err2); err != nil {
		return &usageError{err, ""}
	}
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	u, err := c.Usage(ctx, api.UsageRequest{By: o.by, Since: since, Until: until})
	if err != nil {
		return err
	}
	if len(u.Missing) > 0 {
		if _, err := fmt.Fprintf(a.err, "qosctl: not in it is what was booked by nodes that do not answer: %s\n", strings.Join(u.Missing, ", ")); err != nil {
			return err
		}
	}
	if o.form == formCSV {
		return usageCSV(a.out, u)
	}
	return form(o.form).print(a.out, u, func(w io.Writer) error { return usageTable(w, u) })
}

// dayOf reads a day, or a number of days up to today.
func dayOf(flag, text string, now time.Time) (string, error) {
	if number, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(number); err == nil && n > 0 && n <= 10_000 {
			return now.UTC().AddDate(0, 0, 1-n).Format(time.DateOnly), nil
		}
	} else if _, err := time.Parse(time.DateOnly, text); err == nil || text == "" {
		return text, nil
	}
	return "", fmt.Errorf("--%s: want a day as 2026-01-31, or a number of days as 7d (got %q)", flag, text)
}

// usageKeys are the columns that say what a row is of.
func usageKeys(by string, u api.Usage) (names, values []string) {
	switch by {
	case api.UsageByDay:
		return []string{"day"}, []string{u.Day}
	case api.UsageByJob:
		return []string{"tenant", "job", "framework"}, []string{u.Tenant, u.Job, string(u.Framework)}
	}
	return []string{"tenant"}, []string{u.Tenant}
}

func usageTable(w io.Writer, u api.UsageReport) error {
	names, _ := usageKeys(u.By, api.Usage{})
	head := slices.Concat(names, []string{"runs", "met", "missed", "failed", "consumed", "requested", "borrowed", "lost", "overhead"})
	rows := []string{strings.ToUpper(row(head...))}
	var all api.UsageCounts
	for _, one := range u.Rows {
		_, values := usageKeys(u.By, one)
		rows = append(rows, row(append(values, usageCells(one.UsageCounts)...)...))
		all = all.Plus(one.UsageCounts)
	}
	if len(u.Rows) > 1 {
		total := make([]string, len(names))
		total[0] = "total"
		rows = append(rows, row(append(total, usageCells(all)...)...))
	}
	if err := table(w, rows...); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "CPU seconds of runs that ended from %s to %s\n", u.Since, u.Until)
	return err
}

func usageCells(c api.UsageCounts) []string {
	cells := []string{strconv.Itoa(c.Runs), strconv.Itoa(c.Met), strconv.Itoa(c.Missed), strconv.Itoa(c.Failed)}
	for _, v := range []float64{c.CPU, c.Requested, c.Borrowed, c.Lost, c.Overhead} {
		cells = append(cells, strconv.FormatFloat(v, 'f', 1, 64))
	}
	return cells
}

func usageCSV(w io.Writer, u api.UsageReport) error {
	out := csv.NewWriter(w)
	names, _ := usageKeys(u.By, api.Usage{})
	records := [][]string{append(names, "runs", "met", "missed", "failed", "cpu_seconds", "requested_cpu_seconds", "borrowed_cpu_seconds", "lost_cpu_seconds", "overhead_cpu_seconds")}
	for _, one := range u.Rows {
		_, record := usageKeys(u.By, one)
		for _, n := range []int{one.Runs, one.Met, one.Missed, one.Failed} {
			record = append(record, strconv.Itoa(n))
		}
		for _, v := range []float64{one.CPU, one.Requested, one.Borrowed, one.Lost, one.Overhead} {
			record = append(record, strconv.FormatFloat(v, 'f', 3, 64))
		}
		records = append(records, record)
	}
	if err := out.WriteAll(records); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}
