package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"qosctl/qos"
)

type validateOpts struct {
	files  []string
	strict bool
	form   form
}

func newValidateCmd(a *app) *cobra.Command {
	var o validateOpts
	cmd := &cobra.Command{
		Use:   "validate FILE|-...",
		Short: "Check job files without submitting them",
		Long: `Check job files without submitting them; no agent is needed. Each problem is printed with file, line, column, the JSON
path, what was found there and what to do about it. The exit code is 6 if there is any.`,
		Example: `  qosctl validate job.json
  qosctl validate --strict jobs/*.json
  qosctl validate -o json job.json`,
		Args:              args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: completeFiles("json"),
		RunE: run(func(_ *cobra.Command, args []string) error {
			o.files = args
			return a.runValidate(o)
		}),
	}
	cmd.Flags().BoolVar(&o.strict, "strict", false, "count warnings as problems")
	addForm(cmd, &o.form)
	return cmd
}

// verdictOnFile is what validate says of a file.
type verdictOnFile struct {
	File     string        `json:"file"`
	OK       bool          `json:"ok"`
	Name     string        `json:"name,omitempty"`
	Kind     qos.Framework `json:"framework,omitempty"`
	Error    string        `json:"error,omitempty"` // it could not be read
	Problems []qos.Problem `json:"problems,omitempty"`
	Warnings []qos.Warning `json:"warnings,omitempty"`
	qos      qos.QoS
}

func (a *app) runValidate(o validateOpts) error {
	verdicts := make([]verdictOnFile, 0, len(o.files))
	bad := 0
	for _, file := range o.files {
		v := a.validate(file, o.strict)
		verdicts = append(verdicts, v)
		if !v.OK {
			bad++
		}
	}
	err := o.form.print(a.out, verdicts, func(w io.Writer) error {
		for _, v := range verdicts {
			if err := v.print(w); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && bad > 0 {
		return &exitStatus{code: exitInvalid}
	}
	return err
}

func (a *app) validate(file string, strict bool) verdictOnFile {
	spec, _, warnings, err := a.parseJobFile(file)
	v := verdictOnFile{File: file, OK: err == nil && (!strict || len(warnings) == 0), Warnings: warnings}
	if p, ok := errors.AsType[qos.Problems](err); ok {
		v.Problems = p
	} else if err != nil {
		v.Error = err.Error()
	}
	if err == nil {
		v.Name, v.Kind, v.qos = spec.Name, spec.Framework, spec.QoS
	}
	return v
}

func (v verdictOnFile) print(w io.Writer) error {
	if v.Error != "" {
		fmt.Fprintln(w, v.Error)
	}
	for _, p := range v.Problems {
		fmt.Fprintln(w, p.Error())
	}
	warn(w, v.Warnings)
	if !v.OK {
		return nil
	}
	_, err := fmt.Fprintf(w, "%s: ok: %s for %s, %s\n", v.File, v.Name, v.Kind, qosText(v.qos))
	return err
}
