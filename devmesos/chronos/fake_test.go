package chronos

import "qosctl/devmesos/node"

// fake is a cluster without processes.
type fake struct {
	live  map[string]node.Task
	all   []node.Task
	kills []string
	more  []node.Offer      // of other agents
	at    map[string]string // task → agent
}

func (f *fake) Offers() []node.Offer {
	o := node.Offer{Hostname: "h1", AgentID: "S0", CPUs: 4, MemMiB: 4000, DiskMiB: 4000, Attributes: map[string]string{"qosctl": "yes"}}
	for _, t := range f.live {
		o.CPUs -= t.CPUs
	}
	return append([]node.Offer{o}, f.more...)
}

func (f *fake) Launch(agent string, t node.Task) error {
	if f.at == nil {
		f.at = map[string]string{}
	}
	f.at[t.ID] = agent
	f.live[t.ID] = t
	f.all = append(f.all, t)
	return nil
}

func (f *fake) Kill(_, id string) { f.kills = append(f.kills, id) }
