package doctor

import (
	"cmp"
	"context"

	"qosctl/agent/api"
)

// Agent is what an agent knows of itself.
type Agent struct {
	Version, Mode string
	Held          string // why it decides nothing; "": it does
	Settled       bool   // what ran before has been taken up
	StoreFails    bool
	StoreBytes    int64
}

// Running is the probe of the agent that looks.
func Running(a Agent) Probe {
	return Probe{Entry: AgentMode, Look: func(context.Context) []api.Check {
		list := []api.Check{AgentAnswers.ok("", "the agent answers, version %s", a.Version)}
		switch {
		case !a.Settled:
			list = append(list, AgentMode.warn("", "what ran before is still being taken up", nil, ""))
		case a.Held != "":
			list = append(list, AgentMode.ok("", "control.mode is %s; %s", a.Mode, a.Held))
		default:
			list = append(list, AgentMode.ok("", "control.mode is %s%s", a.Mode, map[string]string{"observe": ": nothing is resized", "advise": ": what would be done is said, and not done"}[a.Mode]))
		}
		if a.StoreFails {
			return append(list, AgentStore.fault("", "the store can't be written", nil, ""))
		}
		return append(list, AgentStore.ok("", "the store is written, %s", bytesText(uint64(max(a.StoreBytes, 0)))))
	}}
}

// Silent is the probe of an agent that does not answer.
func Silent(why error) Probe {
	return Probe{Entry: AgentAnswers, Look: func(context.Context) []api.Check {
		return []api.Check{AgentAnswers.fault("", "no agent answers: what follows was looked at from outside", why, "")}
	}}
}

// Config tells of the configuration that is looked at.
func Config(file string, err error) Probe {
	return Probe{Entry: AgentConfig, Look: func(context.Context) []api.Check {
		if err != nil {
			return []api.Check{AgentConfig.fault(file, "it can't be used: what follows is of the defaults", err, "")}
		}
		return []api.Check{AgentConfig.ok(file, "%s", cmp.Or(file, "there is none: the defaults hold"))}
	}}
}

// SameVersion compares the agent's version with the program's that asks.
func SameVersion(agent, program string) api.Check {
	if agent != program {
		return AgentVersion.warn("", "the agent is version "+agent+", this command "+program, nil, "")
	}
	return AgentVersion.ok("", "agent and command are version %s", program)
}
