package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"qosctl/agent/api"
	"qosctl/qos"
)

type submitOpts struct {
	file    string
	id      string
	policy  string
	follow  bool
	replace bool
	strict  bool
	form    form
	old     oldArgs
}

func newSubmitCmd(a *app) *cobra.Command {
	var o submitOpts
	cmd := &cobra.Command{
		Use:   "submit FILE|- | -j FILE -m CREDENTIALS | -c CREDENTIALS [-i URL]",
		Short: "Hand a job in",
		Long: `Hand a job in: a job file for Marathon or Chronos with a qos block. The file is checked before anything is sent.
With --follow the command stays until the job has ended, and exits as wait does.

The arguments of the thesis' launcher are taken too: -j is the job file, -m or -c the credentials of Marathon or Chronos, and say which of the two the
job is for, -i is the address of the supervisor, which is an agent now. The agent hands the job in by its own credentials
(` + "`frameworks`" + ` in its configuration): the file of -m or -c is checked, and not sent. Over the network the agent wants a token (--token-file).`,
		Example: `  qosctl submit job.json
  qosctl submit job.json --follow
  sed s/6000/3000/ job.json | qosctl submit - --replace
  qosctl submit -j job.json -c chronos_credentials.json -i http://10.0.0.2:30000`,
		Args:              args(cobra.MaximumNArgs(1)),
		ValidArgsFunction: completeFiles("json"),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.file = args[0]
			}
			if err := a.asLauncher(&o); err != nil {
				return err
			}
			return a.runSubmit(cmd.Context(), o)
		}),
	}
	f := cmd.Flags()
	f.BoolVarP(&o.follow, "follow", "f", false, "stay and show the job's progress until it has ended")
	f.BoolVar(&o.replace, "replace", false, "take the place of a job of the same name")
	f.BoolVar(&o.strict, "strict", false, "refuse a deadline that can't be met, and anything that would be a warning")
	f.StringVar(&o.policy, "policy", "", policyList()+", instead of the file's or the agent's")
	f.StringVar(&o.id, "id", "", "the job's UUID, to repeat a submission without doing it twice (default: a new one)")
	must(cmd.RegisterFlagCompletionFunc("policy", cobra.FixedCompletions(qos.PolicyNames(), cobra.ShellCompDirectiveNoFileComp)))
	addForm(cmd, &o.form)
	o.old.add(cmd)
	return cmd
}

func (a *app) runSubmit(ctx context.Context, o submitOpts) error {
	switch {
	case o.id == "":
		o.id = newUUID()
	case !uuidForm.MatchString(o.id):
		return &usageError{fmt.Errorf("--id must be a UUID in lower case (got %q)", o.id), ""}
	}
	if o.policy != "" && !slices.Contains(qos.PolicyNames(), o.policy) {
		return &usageError{fmt.Errorf("--policy must be %s (got %q)", policyList(), o.policy), ""}
	}
	spec, data, warnings, err := a.parseJobFile(o.file)
	warn(a.err, warnings)
	if err != nil {
		return problemsError(err)
	}
	if err := o.old.fits(spec.Framework); err != nil {
		return err
	}
	if o.strict && len(warnings) > 0 {
		return &exitStatus{exitInvalid, withHint(fmt.Errorf("the job file has warnings, and --strict refuses them"), "leave --strict out, or change what the warnings name; nothing was submitted")}
	}
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	answer, err := submit(ctx, c, api.SubmitRequest{ID: o.id, File: data, Replace: o.replace, Strict: o.strict, Policy: o.policy})
	if err != nil {
		return err
	}
	known := make(map[string]bool)
	for _, w := range warnings {
		known[w.Path+w.Text] = true
	}
	for _, w := range answer.Warnings {
		if !known[w.Path+w.Text] {
			fmt.Fprintf(a.err, "warning: %s\n", problemLine(w))
		}
	}
	if err := o.form.print(a.out, answer, func(w io.Writer) error { return submitted(w, answer.Job, o.follow) }); err != nil || !o.follow {
		return err
	}
	return a.follow(ctx, c, answer.Job)
}

func submitted(w io.Writer, j api.Job, follow bool) error {
	text := fmt.Sprintf("%s is submitted to %s as %s\n", j.Name, j.Framework, j.ID)
	if !follow {
		name := strings.TrimPrefix(j.Name, "/")
		text += fmt.Sprintf("see `qosctl status %s`, `qosctl wait %s`\n", name, name)
	}
	_, err := io.WriteString(w, text)
	return err
}

// policyList names the policies, for help and errors.
func policyList() string {
	names := qos.PolicyNames()
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}
