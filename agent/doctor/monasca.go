package doctor

import (
	"context"
	"errors"
	"fmt"

	"qosctl/agent/api"
	"qosctl/monasca"
)

// Monasca is where figures are sent.
type Monasca struct {
	Options monasca.Options
	Stats   *monasca.Stats // of the agent's sender; nil: no agent answers
}

// Probes sign in, ask, and tell of the sender.
func (m Monasca) Probes() []Probe {
	if m.Options.Credentials == "" {
		return []Probe{Skip(KeystoneLogin, "nothing is sent to Monasca (monasca.credentials_file)")}
	}
	list := []Probe{{Entry: KeystoneLogin, Look: m.look}}
	if m.Stats != nil {
		list = append(list, Probe{Entry: MonascaSpool, Look: func(context.Context) []api.Check { return []api.Check{m.spool()} }})
	}
	return list
}

func (m Monasca) look(ctx context.Context) []api.Check {
	t := monasca.Try(ctx, m.Options)
	switch {
	case t.Login != nil:
		return []api.Check{KeystoneLogin.fault(t.Keystone, "there is no token to be had", t.Login, ""), MonascaAnswers.skip("", "there is no token")}
	case t.Ask != nil:
		return []api.Check{KeystoneLogin.ok(t.Keystone, "Keystone gives a token to %s", t.User), MonascaAnswers.fault(t.Monasca, "Monasca does not answer as it should", t.Ask, "")}
	}
	return []api.Check{KeystoneLogin.ok(t.Keystone, "Keystone gives a token to %s", t.User), MonascaAnswers.ok(t.Monasca, "Monasca takes measurements of ours")}
}

func (m Monasca) spool() api.Check {
	s := m.Stats
	switch {
	case s.DiskFault != "":
		return MonascaSpool.fault("", "the spool can't be written", errors.New(s.DiskFault), "make room on the disk of monasca.spool_dir, or mend it")
	case s.Fault != "":
		return MonascaSpool.warn("", fmt.Sprintf("the sender is %s", s.State), errors.New(s.Fault), "")
	}
	return MonascaSpool.ok("", "the sender is %s", s.State)
}
