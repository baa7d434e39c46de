package qos

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// parameterKey is a long option of docker run, without its dashes.
var parameterKey = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9-]*$`)

// ownParameters are options of docker run that would take a held container out of the agent's hands.
func ownParameters() []string {
	return []string{
		"restart", "rm", "name", "cgroup-parent", "cpus", "cpu-quota", "cpu-period", "cpu-shares", "cidfile", "detach", "d",
		"entrypoint", "tty", "t", "interactive", "i",
	}
}

// container reads an app's container, in the shape of before Marathon 1.5 or in the one since.
func (m *marathonFile) container() *Container {
	n := m.root.get("container")
	network := m.network(n)
	if n == nil || n.bad || n.kind != kindObject {
		if n == nil && network != "host" && network != "" {
			m.missing(m.root, "container", "is missing, and a network of its own needs one", "add a container, or remove networks")
		}
		return nil
	}
	c := &Container{Type: "DOCKER", Network: network}
	if text, ok := m.text(n.get("type")); ok {
		c.Type = text
		if text != "DOCKER" && text != "MESOS" {
			m.refuse(n.get("type"), "is no type of container", "write DOCKER or MESOS")
		}
	}
	docker := n.get("docker")
	switch {
	case docker == nil && c.Type == "DOCKER" && n.get("appc") == nil:
		m.missing(n, "docker", "is missing, and a container of type DOCKER needs it", `add "docker": {"image": "my-image"}`)
	case docker != nil && !docker.bad:
		c.Image = m.imageOf(docker)
		c.ForcePull = m.boolean(docker.get("forcePullImage"))
		c.Privileged = m.boolean(docker.get("privileged"))
		c.Parameters = m.parameters(docker.get("parameters"), m.inPlace)
	}
	c.Ports = m.ports(n, docker, network)
	c.Volumes = m.volumes(n.get("volumes"), false)
	return c
}

// imageOf reads the image of a container that must have one.
func (f *file) imageOf(in *node) string {
	n := in.get("image")
	if n == nil {
		f.missing(in, "image", "is missing", `add "image": "my-image"`)
		return ""
	}
	image, ok := f.text(n)
	switch {
	case !ok:
	case image == "":
		f.refuse(n, "is empty", "write the name of an image")
	case strings.HasPrefix(image, "-") || strings.ContainsAny(image, " \t\r\n"):
		f.refuse(n, "is not a name that an image can have", "write it as registry/name:tag, without spaces")
	}
	return image
}

// network reads the network of an app from whichever of its three places it stands in; host if it stands in none.
func (m *marathonFile) network(container *node) string {
	networks, address := m.root.get("networks"), m.root.get("ipAddress")
	old := container.get("docker").get("network")
	name, _ := m.text(address.get("networkName"))
	switch {
	case old != nil && networks != nil && !networks.empty():
		m.refuse(old, "stands beside networks, and Marathon takes only one of them", "remove container.docker.network")
	case address != nil && networks != nil && !networks.empty():
		m.refuse(address, "stands beside networks, and Marathon takes only one of them", "remove ipAddress")
	case old != nil:
		return m.oldNetwork(old, name)
	case networks != nil && !networks.bad && len(networks.items) > 0:
		return m.newNetwork(networks)
	case address != nil && !address.bad && !address.empty():
		if name == "" {
			m.refuse(address, "has no networkName", `write "networks": [{"mode": "container", "name": "my-network"}] instead`)
		}
		return name
	default:
		return "host"
	}
	return ""
}

// oldNetwork translates container.docker.network.
func (m *marathonFile) oldNetwork(n *node, name string) string {
	text, ok := m.text(n)
	switch {
	case !ok:
	case text == "HOST":
		return "host"
	case text == "BRIDGE":
		return "bridge"
	case text == "NONE" && m.inPlace:
		m.refuse(n, "is NONE, which Marathon 1.5 and later answer with an error", "remove it")
	case text == "NONE":
		return "none"
	case text == "USER" && name == "":
		m.refuse(n, "is USER without a name of the network", `write "networks": [{"mode": "container", "name": "my-network"}] instead`)
	case text == "USER":
		return name
	default:
		m.refuse(n, "is no network of Docker's that Marathon knows", "write HOST, BRIDGE, USER or NONE, in capitals")
	}
	return ""
}

// newNetwork translates networks.
func (m *marathonFile) newNetwork(networks *node) string {
	if len(networks.items) > 1 {
		m.refuse(networks, "has more than one network", "leave one of them")
		return ""
	}
	n := networks.items[0]
	mode, name := n.get("mode"), n.get("name")
	if (mode != nil && mode.bad) || (name != nil && name.bad) {
		return ""
	}
	text := "container"
	if mode != nil {
		text = mode.text
	}
	switch {
	case text == "host":
		return "host"
	case text == "container/bridge":
		return "bridge"
	case text != "container":
		m.refuse(mode, "is no mode of a network", "write host, container/bridge or container")
	case name == nil || name.text == "":
		m.missing(n, "name", "is missing, and a network of mode container needs it", `add "name": "my-network", or write "mode": "container/bridge"`)
	case slices.Contains([]string{"host", "bridge", "none"}, name.text):
		m.refuse(name, "is the name of a network that Docker keeps for itself", "write the mode host or container/bridge")
	default:
		return name.text
	}
	return ""
}

// ports reads port mappings from the older or the newer place.
func (m *marathonFile) ports(container, docker *node, network string) []PortMapping {
	older, newer := docker.get("portMappings"), container.get("portMappings")
	list := newer
	if older != nil && !older.empty() {
		if newer != nil && !newer.empty() {
			m.refuse(older, "stands beside container.portMappings, and Marathon takes only one of them", "remove container.docker.portMappings")
		}
		list = older
	}
	if list == nil || list.bad || list.empty() {
		return nil
	}
	if network == "host" {
		if list == older {
			m.warn(list, "is dropped: a container on the host's network has no ports of its own", "remove it, or write the network BRIDGE")
			return nil
		}
		m.refuse(list, "stands beside the host's network, which has no ports of the container's own", `add "networks": [{"mode": "container/bridge"}], or remove it`)
		return nil
	}
	var ports []PortMapping
	for _, item := range list.items {
		ports = append(ports, m.port(item))
	}
	return ports
}

func (m *marathonFile) port(n *node) PortMapping {
	p := PortMapping{Protocol: "tcp"}
	p.ContainerPort, _ = m.integer(n.get("containerPort"))
	p.HostPort, _ = m.integer(n.get("hostPort"))
	p.Name, _ = m.text(n.get("name"))
	if text, ok := m.text(n.get("protocol")); ok {
		p.Protocol = text
		if text != "tcp" && text != "udp" && text != "udp,tcp" {
			m.refuse(n.get("protocol"), "is no protocol of a port", `write tcp, udp or "udp,tcp"`)
		}
	}
	return p
}

// parameters reads arguments for docker run, and refuses those that are the agent's to give.
func (f *file) parameters(list *node, inPlace bool) []Parameter {
	if list == nil || list.bad {
		return nil
	}
	var parameters []Parameter
	for _, item := range list.items {
		keyNode := item.get("key")
		key, ok := f.text(keyNode)
		value, _ := f.text(item.get("value"))
		switch {
		case keyNode == nil:
			f.missing(item, "key", "is missing", `write {"key": "option", "value": "value"}`)
		case !ok:
		case !parameterKey.MatchString(key):
			f.refuse(keyNode, "is no long option of docker run", "write it without dashes, as hostname")
		case !inPlace && slices.Contains(ownParameters(), key):
			f.refuse(keyNode, "is an option that the agent sets itself for a container that it holds", setInPlace)
		case !inPlace && key == "label" && strings.HasPrefix(value, "qosctl."):
			f.refuse(keyNode, "sets a label beginning with qosctl., which qosctl keeps for itself", "give the label another name")
		default:
			parameters = append(parameters, Parameter{Key: key, Value: value})
		}
	}
	return parameters
}

// volumes reads mounts. Chronos takes the mode in any case, Marathon in capitals only.
func (f *file) volumes(list *node, anyCase bool) []Volume {
	if list == nil || list.bad {
		return nil
	}
	var volumes []Volume
	for _, item := range list.items {
		if slices.ContainsFunc([]string{"persistent", "external", "secret"}, func(key string) bool { return item.get(key) != nil }) {
			continue // a volume of Mesos': refused by the table if the job is held, mounted by Mesos if not
		}
		v := Volume{ContainerPath: f.mountPath(item, "containerPath"), HostPath: f.mountPath(item, "hostPath")}
		mode := item.get("mode")
		text, ok := f.text(mode)
		if anyCase {
			text = strings.ToUpper(text)
		}
		switch {
		case mode == nil:
			f.missing(item, "mode", "is missing", `add "mode": "RO" or "mode": "RW"`)
		case ok && text != "RO" && text != "RW":
			f.refuse(mode, "is no mode of a volume", "write RO or RW")
		}
		v.ReadOnly = text == "RO"
		volumes = append(volumes, v)
	}
	return volumes
}

// mountPath reads one of the two paths of a volume.
func (f *file) mountPath(volume *node, key string) string {
	n := volume.get(key)
	if n == nil {
		f.missing(volume, key, "is missing", `write {"containerPath": "/data", "hostPath": "/srv/data", "mode": "RW"}`)
		return ""
	}
	text, ok := f.text(n)
	switch {
	case !ok:
	case !path.IsAbs(text):
		f.refuse(n, "is not an absolute path", "begin it with a slash")
	case strings.Contains(text, ":"):
		f.refuse(n, "has a colon, with which Docker separates the two paths", "use a path without one")
	case key == "containerPath" && path.Clean(text) == "/":
		f.refuse(n, "is the root of the container", "mount it below a directory, such as /data")
	}
	return text
}
