package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"qosctl/agent/api"
	"qosctl/framework"
	"qosctl/framework/chronos"
	"qosctl/framework/marathon"
	"qosctl/framework/mesos"
)

// soon is the pause before a request is tried again: a doctor does not wait for a server to come back.
const soon = 20 * time.Millisecond

// Framework is an endpoint of a framework.
type Framework struct {
	Name, Type string // the configuration's name; marathon or chronos
	Endpoint   framework.Endpoint
	Err        error // why there is no endpoint: its credentials can't be read
}

// Probe asks each of its URLs.
func (f Framework) Probe() Probe { return Probe{Entry: FrameworkAnswers, Of: f.Name, Look: f.look} }

// ask asks one URL for its version; what comes back is in words.
func (f Framework) ask(ctx context.Context, url string) (version string, old bool, err error) {
	e := f.Endpoint
	e.URLs, e.Observe = []string{url}, nil
	if f.Type == "chronos" {
		c, err := chronos.New(e, chronos.Options{Backoff: soon})
		if err != nil {
			return "", false, err
		}
		defer c.Close()
		v3, err := c.V3(ctx)
		if v3 {
			return "Chronos 3 or later", false, err
		}
		return "Chronos 2", false, err
	}
	c, err := marathon.New(e, marathon.Options{Backoff: soon})
	if err != nil {
		return "", false, err
	}
	defer c.Close()
	info, err := c.Info(ctx)
	v, _ := parseVersion(info.Version)
	return "Marathon " + info.Version, v.before(marathonLeast), err
}

// marathonLeast is the oldest Marathon that docs/contract.md has.
var marathonLeast = version{1, 4}

func (f Framework) look(ctx context.Context) []api.Check {
	if f.Err != nil {
		return []api.Check{
			FrameworkAnswers.skip(f.Name, "its credentials can't be read"), FrameworkLogin.fault(f.Name, "our credentials for it can't be used", f.Err, ""),
			FrameworkVersion.skip(f.Name, "its credentials can't be read"),
		}
	}
	var refused, silent []error
	says, old, answered := "", false, 0
	for _, url := range f.Endpoint.URLs {
		v, o, err := f.ask(ctx, url)
		switch {
		case err == nil:
			says, old, answered = v, o, answered+1
		case errors.Is(err, framework.ErrUnauthorized):
			refused, answered = append(refused, err), answered+1
		default:
			silent = append(silent, fmt.Errorf("%s: %w", url, err))
		}
	}
	return []api.Check{f.answers(answered, silent), f.login(answered, says, refused), f.version(says, old)}
}

func (f Framework) answers(answered int, silent []error) api.Check {
	switch {
	case answered == 0:
		return FrameworkAnswers.fault(f.Name, "it does not answer", errors.Join(silent...), remedyOf(silent))
	case len(silent) > 0:
		return FrameworkAnswers.warn(f.Name, fmt.Sprintf("%d of %d URLs do not answer", len(silent), len(f.Endpoint.URLs)), errors.Join(silent...), remedyOf(silent))
	}
	return FrameworkAnswers.ok(f.Name, "it answers")
}

func remedyOf(errs []error) string {
	for _, err := range errs {
		if r := framework.Remedy(err); r != "" {
			return r
		}
	}
	return ""
}

func (f Framework) login(answered int, says string, refused []error) api.Check {
	switch {
	case len(refused) > 0:
		return FrameworkLogin.fault(f.Name, "it refuses our credentials", errors.Join(refused...), "")
	case answered == 0:
		return FrameworkLogin.skip(f.Name, "it does not answer")
	case says == "":
		return FrameworkLogin.skip(f.Name, "it was not asked")
	case f.Endpoint.Username == "" && f.Endpoint.TokenFile == "":
		return FrameworkLogin.ok(f.Name, "it asks for no credentials")
	}
	return FrameworkLogin.ok(f.Name, "it takes our credentials")
}

func (f Framework) version(says string, old bool) api.Check {
	switch {
	case says == "":
		return FrameworkVersion.skip(f.Name, "it did not say")
	case old:
		return FrameworkVersion.warn(f.Name, says+" is older than 1.4", nil, "")
	}
	return FrameworkVersion.ok(f.Name, "%s", says)
}

// Mesos is this node's Mesos agent, and the masters.
type Mesos struct {
	URL        string // "": none
	Constraint string // attribute that jobs are constrained to; "": none
	Timeout    time.Duration
	Masters    framework.Endpoint // without URLs: none
	Host       string             // this node's name in Mesos, if the agent can't be asked
}

// Probes ask the agent and the masters.
func (m Mesos) Probes() []Probe {
	agent, master := Skip(MesosAgent, "no Mesos agent is configured (mesos.url)"), Skip(MesosMaster, "none is configured (mesos.master): drains are by constraints alone")
	if m.URL != "" {
		agent = Probe{Entry: MesosAgent, Of: m.URL, Look: m.lookAgent}
	}
	if len(m.Masters.URLs) > 0 {
		master = Probe{Entry: MesosMaster, Look: m.lookMaster}
	}
	return []Probe{agent, master}
}

// state is the agent's.
func (m Mesos) state(ctx context.Context) (mesos.State, error) {
	c, err := mesos.New(framework.Endpoint{Name: "mesos agent", URLs: []string{m.URL}, Timeout: m.Timeout}, mesos.Options{Backoff: soon})
	if err != nil {
		return mesos.State{}, err
	}
	defer c.Close()
	return c.State(ctx)
}

func (m Mesos) lookAgent(ctx context.Context) []api.Check {
	s, err := m.state(ctx)
	if err != nil {
		return []api.Check{MesosAgent.fault(m.URL, "the Mesos agent does not answer as one", err, ""), MesosAttr.skip("", "the Mesos agent does not answer")}
	}
	list := []api.Check{MesosAgent.ok(m.URL, "Mesos agent %s of %s answers: %g CPUs", s.Agent.Version, s.Agent.Hostname, s.Agent.CPUs)}
	value, has := s.Agent.Attributes[m.Constraint]
	switch {
	case m.Constraint == "":
		list = append(list, MesosAttr.skip("", "jobs are not constrained to an attribute (run.constraint)"))
	case !has:
		list = append(list, MesosAttr.warn("", "the Mesos agent has no attribute "+m.Constraint+", to which every job is constrained", nil, "--attributes="+m.Constraint+":true for the Mesos agent, or run.constraint: \"\" where every node has an agent of ours"))
	default:
		list = append(list, MesosAttr.ok("", "%s:%s", m.Constraint, value))
	}
	return list
}

func (m Mesos) lookMaster(ctx context.Context) []api.Check {
	return []api.Check{m.master(ctx)}
}

func (m Mesos) master(ctx context.Context) api.Check {
	c, err := mesos.NewMaster(m.Masters, mesos.Options{Backoff: soon})
	if err != nil {
		return MesosMaster.fault("", "mesos.master can't be used", err, "")
	}
	defer c.Close()
	agents, err := c.Agents(ctx)
	switch {
	case errors.Is(err, mesos.ErrNotPermitted):
		return MesosMaster.warn("", "the master does not permit us to ask for its agents", err, "give mesos.master_username the right, or do without: drains are by constraints alone")
	case errors.Is(err, framework.ErrUnauthorized):
		return MesosMaster.fault("", "the master refuses our credentials", err, "")
	case err != nil:
		return MesosMaster.fault("", "no master answers", err, "")
	}
	host := m.Host
	if m.URL != "" {
		if s, err := m.state(ctx); err == nil {
			host = s.Agent.Hostname
		}
	}
	for _, a := range agents {
		if a.Hostname == host {
			return MesosMaster.ok("", "a master answers, and knows %s as one of its %d agents", host, len(agents))
		}
	}
	return MesosMaster.warn("", fmt.Sprintf("a master answers, and %s is not among its %d agents", host, len(agents)), nil, "cluster.hostname in the configuration is this node's name in Mesos")
}
