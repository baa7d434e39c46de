package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// The forms of output.
const (
	formTable = "table"
	formJSON  = "json"
	formYAML  = "yaml"
)

// form is the flag -o.
type form string

func (f *form) String() string { return string(*f) }

// Type is what the help shows as the flag's value.
func (f *form) Type() string { return "form" }

// Set takes a flag's value.
func (f *form) Set(s string) error {
	switch s {
	case formTable, formJSON, formYAML:
		*f = form(s)
		return nil
	}
	return fmt.Errorf("must be table, json or yaml")
}

// addForm gives a command the flag -o.
func addForm(cmd *cobra.Command, f *form) {
	*f = formTable
	cmd.Flags().VarP(f, "output", "o", "table, json or yaml")
	if err := cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{formTable, formJSON, formYAML}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag was made a line above
	}
}

// print writes a value as JSON or YAML, or has table write it.
func (f form) print(w io.Writer, value any, table func(io.Writer) error) error {
	switch f {
	case formJSON:
		return printJSON(w, value)
	case formYAML:
		return printYAML(w, value)
	}
	return table(w)
}

func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

// printYAML goes by way of JSON, so that both forms have the same keys in the same order.
func printYAML(w io.Writer, value any) error {
	var data bytes.Buffer
	if err := printJSON(&data, value); err != nil {
		return err
	}
	var node yaml.Node
	if err := yaml.Unmarshal(data.Bytes(), &node); err != nil { // JSON is YAML
		return fmt.Errorf("write YAML: %w", err)
	}
	blockStyle(&node)
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	if err := encoder.Encode(&node); err != nil {
		return fmt.Errorf("write YAML: %w", err)
	}
	return encoder.Close()
}

// blockStyle undoes JSON's braces and quotes.
func blockStyle(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		var s yaml.Node
		s.SetString(n.Value)
		n.Style = s.Style
	} else {
		n.Style = 0
	}
	for _, c := range n.Content {
		blockStyle(c)
	}
}

// table writes rows in columns; a row's cells are separated by tabs.
func table(w io.Writer, rows ...string) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, r := range rows {
		if _, err := fmt.Fprintln(t, r); err != nil {
			return err
		}
	}
	return t.Flush()
}

// row joins cells; an empty cell is a dash.
func row(cells ...string) string {
	for i, c := range cells {
		if c == "" {
			cells[i] = "-"
		}
	}
	return strings.Join(cells, "\t")
}

// cores shows a number of CPUs.
func cores(f float64) string { return fmt.Sprintf("%.2f", f) }

// percent shows a share.
func percent(f float64) string {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return "-"
	}
	return fmt.Sprintf("%.0f%%", 100*f)
}

// span shows a time span in few letters: 1h02m, 3m05s, 12s, 0.4s.
func span(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%s%dd%02dh", sign, d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%s%dh%02dm", sign, d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%s%dm%02ds", sign, d/time.Minute, d%time.Minute/time.Second)
	case d >= 10*time.Second:
		return fmt.Sprintf("%s%ds", sign, d/time.Second)
	}
	return fmt.Sprintf("%s%.1fs", sign, d.Seconds())
}

// moment shows a time of day, with the date when it isn't today's.
func moment(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	t, now = t.Local(), now.Local()
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format("2006-01-02 15:04:05")
}
