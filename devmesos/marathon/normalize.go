package marathon

import (
	"encoding/json"
	"net/http"
	"strings"
)

// normalize turns the deprecated members of a definition or update into those of 1.5: old container shape, uris, ports.
func normalize(a *App) error {
	if err := normalizeNetwork(a); err != nil {
		return err
	}
	if a.URIs != nil {
		if len(a.URIs) > 0 && len(a.Fetch) > 0 {
			return failure(http.StatusInternalServerError, "cannot specify both uris and fetch fields")
		}
		if len(a.Fetch) == 0 {
			a.Fetch = []json.RawMessage{}
			for _, u := range a.URIs {
				b, _ := json.Marshal(map[string]any{"uri": u, "extract": true, "executable": false, "cache": false}) // plain values
				a.Fetch = append(a.Fetch, b)
			}
		}
		a.URIs = nil
	}
	if a.Ports != nil {
		if a.PortDefinitions != nil && !samePorts(a.Ports, a.PortDefinitions) {
			return invalidObject([]problem{{"/portDefinitions", []string{"cannot specify both ports and port definitions"}}})
		}
		if a.PortDefinitions == nil {
			a.PortDefinitions = []PortDefinition{}
			for _, p := range a.Ports {
				a.PortDefinitions = append(a.PortDefinitions, PortDefinition{Port: p, Protocol: "tcp"})
			}
		}
		a.Ports = nil
	}
	return nil
}

func samePorts(ports []int, defs []PortDefinition) bool {
	if len(ports) != len(defs) {
		return false
	}
	for i, p := range ports {
		if defs[i].Port != p {
			return false
		}
	}
	return true
}

// normalizeNetwork moves container.docker.network and container.docker.portMappings to where 1.5 has them.
func normalizeNetwork(a *App) error {
	if a.Container == nil || a.Container.Docker == nil {
		return nil
	}
	d := a.Container.Docker
	if len(d.PortMappings) > 0 {
		if len(a.Container.PortMappings) > 0 {
			return failure(http.StatusInternalServerError, "cannot specify both container.docker.portMappings and container.portMappings")
		}
		a.Container.PortMappings = d.PortMappings
	}
	d.PortMappings = nil
	if d.Network == "" {
		return nil
	}
	if len(a.Networks) > 0 {
		return invalidObject([]problem{{"/container/docker/network", []string{"must not specify both container.docker.network and networks"}}})
	}
	switch d.Network {
	case "HOST":
		a.Networks = []Network{{Mode: "host"}}
		a.Container.PortMappings = nil
	case "BRIDGE":
		a.Networks = []Network{{Mode: "container/bridge"}}
	case "USER":
		return failure(http.StatusInternalServerError, "default network name is not configured, cannot convert container network USER")
	default:
		return failure(http.StatusInternalServerError, "unsupported docker network type %s", d.Network)
	}
	d.Network = ""
	return nil
}

// complete gives a definition the defaults of what it does not say.
func (c *Core) complete(a *App) {
	setDefault(&a.Instances, 1)
	setDefault(&a.CPUs, 1)
	setDefault(&a.Mem, 128)
	setDefault(&a.Disk, 0)
	setDefault(&a.GPUs, 0)
	setDefault(&a.Executor, "")
	setDefault(&a.BackoffSeconds, 1)
	setDefault(&a.BackoffFactor, 1.15)
	setDefault(&a.RequirePorts, false)
	setDefault(&a.KillSelection, "YOUNGEST_FIRST")
	setDefault(&a.UpgradeStrategy, UpgradeStrategy{MinimumHealthCapacity: 1, MaximumOverCapacity: 1})
	if c.o.Legacy {
		setDefault(&a.MaxLaunchDelaySeconds, 3600)
		setDefault(&a.UnreachableStrategy, Unreachable{InactiveAfterSeconds: 300, ExpungeAfterSeconds: 600})
	} else {
		setDefault(&a.MaxLaunchDelaySeconds, 300)
		setDefault(&a.UnreachableStrategy, Unreachable{})
		setDefault(&a.Role, "*")
	}
	if len(a.AcceptedResourceRoles) == 0 && !c.o.Legacy {
		a.AcceptedResourceRoles = []string{"*"}
	}
	if a.Container != nil && a.Container.Type == "" {
		a.Container.Type = "MESOS"
		if a.Container.Docker != nil {
			a.Container.Type = "DOCKER"
		}
	}
	if len(a.Networks) == 0 {
		a.Networks = []Network{{Mode: "host"}}
	}
	for i := range a.Constraints {
		if len(a.Constraints[i]) > 1 {
			a.Constraints[i][1] = strings.ToUpper(a.Constraints[i][1])
		}
	}
	c.completePorts(a)
}

// completePorts gives an app on the host's network one port, and service ports to those that have none.
func (c *Core) completePorts(a *App) {
	if a.Networks[0].Mode != "host" {
		a.PortDefinitions = nil
		if a.Container != nil {
			for i := range a.Container.PortMappings {
				if a.Container.PortMappings[i].HostPort == nil && a.Networks[0].Mode == "container/bridge" {
					a.Container.PortMappings[i].HostPort = new(0)
				}
			}
		}
		return
	}
	if a.PortDefinitions == nil {
		a.PortDefinitions = []PortDefinition{{Name: "default"}}
	}
	taken := map[int]bool{}
	for id, s := range c.apps {
		if id != a.ID {
			for _, d := range s.spec.PortDefinitions {
				taken[d.Port] = true
			}
		}
	}
	next := 10000
	for i := range a.PortDefinitions {
		d := &a.PortDefinitions[i]
		if d.Protocol == "" {
			d.Protocol = "tcp"
		}
		if d.Port == 0 {
			for taken[next] {
				next++
			}
			d.Port = next
		}
		taken[d.Port] = true
	}
}

func setDefault[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}

// answer is how a definition is shown: from 1.5 on the new shape only; before, the old one with its deprecated twins.
func (c *Core) answer(a *App) *App {
	out := a.clone()
	if !c.o.Legacy {
		return out
	}
	network := map[string]string{"host": "HOST", "container/bridge": "BRIDGE", "container": "USER"}[out.Networks[0].Mode]
	out.Networks, out.Role = nil, nil
	if out.Container != nil && out.Container.Docker != nil {
		out.Container.Docker.Network = network
		out.Container.Docker.PortMappings, out.Container.PortMappings = out.Container.PortMappings, nil
	}
	for _, d := range out.PortDefinitions {
		out.Ports = append(out.Ports, d.Port)
	}
	for _, f := range out.Fetch {
		var v struct{ URI string }
		_ = json.Unmarshal(f, &v) // it was checked on the way in
		out.URIs = append(out.URIs, v.URI)
	}
	return out
}
