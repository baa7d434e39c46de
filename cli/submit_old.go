package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"qosctl/framework"
	"qosctl/qos"
)

// oldArgs are the arguments of the thesis' launcher.
type oldArgs struct {
	job, marathon, chronos, supervisor string
}

// add adds them as flags, by the launcher's own names.
func (o *oldArgs) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&o.job, "job-file", "j", "", "the job file, as the launcher takes it")
	f.StringVarP(&o.marathon, "credentials-marathon", "m", "", "the launcher's credentials file of Marathon: the job is for Marathon")
	f.StringVarP(&o.chronos, "credentials-chronos", "c", "", "the launcher's credentials file of Chronos: the job is for Chronos")
	f.StringVarP(&o.supervisor, "rest-ip", "i", "", "URL of the supervisor, that is of an agent, as http://10.0.0.2:30000")
	for _, flag := range []string{"job-file", "credentials-marathon", "credentials-chronos"} {
		must(cmd.RegisterFlagCompletionFunc(flag, completeFiles("json")))
	}
}

// asLauncher takes the launcher's arguments for ours.
func (a *app) asLauncher(o *submitOpts) error {
	old := o.old
	wrong := func(hint, format string, args ...any) error { return &usageError{fmt.Errorf(format, args...), hint} }
	switch {
	case o.file == "" && old.job == "":
		return wrong("use: qosctl submit FILE, or the launcher's -j FILE -m|-c CREDENTIALS -i URL", "no job file is given")
	case o.file != "" && old.job != "":
		return wrong("leave one of the two out", "the job file is given twice: %s, and -j %s", o.file, old.job)
	case old.marathon != "" && old.chronos != "":
		return wrong("-m is for a job of Marathon, -c for one of Chronos", "-m and -c exclude each other")
	case old.job != "" && old.marathon == "" && old.chronos == "":
		return wrong("qosctl submit FILE needs neither", "-j needs -m or -c, as the launcher did")
	case old.supervisor != "" && a.agent != "":
		return wrong("leave one of the two out", "the agent is given twice: --agent %s, and -i %s", a.agent, old.supervisor)
	}
	if old.job != "" {
		o.file = old.job
	}
	if old.supervisor != "" {
		a.agent = old.supervisor
	}
	for _, path := range []string{old.marathon, old.chronos} {
		if path == "" {
			continue
		}
		if _, err := framework.LoadCredentials(path); err != nil {
			return &exitStatus{exitInvalid, withHint(err, `it is {"url": "http://host:port", "user": …, "password": …}; nothing was submitted`)}
		}
	}
	return nil
}

// fits refuses a job that is for another framework than the credentials.
func (o oldArgs) fits(f qos.Framework) error {
	flag := ""
	switch {
	case o.marathon != "" && f != qos.Marathon:
		flag = "-m is for Marathon"
	case o.chronos != "" && f != qos.Chronos:
		flag = "-c is for Chronos"
	default:
		return nil
	}
	return &exitStatus{exitInvalid, withHint(errors.New(flag+", and the job file is for "+string(f)), "a Marathon app has an id and a cmd, a Chronos job a name, a schedule and a command; nothing was submitted")}
}
