package qos

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// What Chronos takes for cpus and mem that a job does not say, unless it was started with other values; in CPUs and MiB.
const (
	chronosCPUs = 0.1
	chronosMem  = 128
)

var chronosName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// chronosFile reads a job after the walk over the field table.
type chronosFile struct {
	*file
	root    *node
	inPlace bool
}

func (c *chronosFile) read(spec *Spec) {
	spec.Name = c.name()
	spec.Tenant, _ = c.text(c.root.get("owner"))
	spec.CPUs = c.orDefault("cpus", chronosCPUs)
	spec.MemoryMiB = c.orDefault("mem", chronosMem)
	spec.Container = c.container()
	spec.Process = c.process(spec.Container)
	c.schedule(spec)
	c.constraints()
	c.exclusive(c.root, "uris", "fetch")
}

func (c *chronosFile) name() string {
	n := c.root.get("name")
	name, ok := c.text(n)
	switch {
	case !ok:
	case len(name) > maxName:
		c.refuse(n, fmt.Sprintf("is longer than %d characters", maxName), "write a shorter one")
	case !chronosName.MatchString(name) || name == "." || name == "..":
		c.refuse(n, "is no name that Chronos takes", "write letters, digits, _, - and . only")
	}
	return name
}

// orDefault reads a number for which Chronos has a default of its own configuration.
func (c *chronosFile) orDefault(key string, value float64) float64 {
	n := c.root.get(key)
	if n == nil && !c.root.has(key) {
		c.warnMissing(c.root, key, fmt.Sprintf("is missing: %g is sent, the default of Chronos", value), fmt.Sprintf("add %q: %g, or what the job needs", key, value))
		return value
	}
	if number, ok := c.number(n); ok {
		return number
	}
	return value
}

// process reads what is to be run, and as whom.
func (c *chronosFile) process(container *Container) Process {
	p := Process{Env: c.env()}
	n := c.root.get("command")
	command, ok := c.text(n)
	blank := strings.TrimSpace(command) == ""
	shell := c.root.get("shell")
	switch {
	case n != nil && !ok, n == nil && c.root.has("command"): // reported
	case blank && (!c.inPlace || container == nil):
		if n == nil {
			c.missing(c.root, "command", "is missing", `add what is to be run: "command": "./my-program"`)
		} else {
			c.refuse(n, "is blank", `write what is to be run: "command": "./my-program"`)
		}
	case strings.HasPrefix(command, "http") || strings.HasPrefix(command, "ftp"):
		c.refuse(n, "begins with http or ftp: Chronos would fetch it and run what comes", "name the file in fetch, and run it by ./name")
	}
	if shell != nil && !shell.bad && !c.boolean(shell) && !c.inPlace {
		c.refuse(shell, "is false, and Chronos makes one program name of command and arguments then", "remove it, and write the whole command line into command")
	}
	p.Command = command
	if arguments := c.arguments(); len(arguments) > 0 && !c.inPlace {
		p.Command += " " + strings.Join(arguments, " ")
	}
	p.User, _ = c.text(c.root.get("runAsUser"))
	return p
}

// arguments reads what Chronos appends to the command, and says so.
func (c *chronosFile) arguments() []string {
	n := c.root.get("arguments")
	if n == nil || n.bad || n.empty() {
		return nil
	}
	var arguments []string
	for _, item := range n.items {
		arguments = append(arguments, strings.ReplaceAll(item.text, ";", ""))
	}
	c.warn(n, "is appended to the command as it is, without quotes and semicolons, as Chronos does", "write the whole command line into command")
	return arguments
}

// env reads the environment. Chronos takes numbers and booleans as texts, and does not let its own variables be replaced.
func (c *chronosFile) env() map[string]string {
	n := c.root.get("environmentVariables")
	if n == nil || n.bad || len(n.items) == 0 {
		return nil
	}
	own := []string{
		"mesos_task_id", "MESOS_TASK_ID", "CHRONOS_JOB_OWNER", "CHRONOS_JOB_NAME", "HOST", "CHRONOS_RESOURCE_MEM",
		"CHRONOS_RESOURCE_CPU", "CHRONOS_RESOURCE_DISK", "CHRONOS_JOB_RUN_TIME", "CHRONOS_JOB_RUN_ATTEMPT",
	}
	env := map[string]string{}
	for _, item := range n.items {
		nameNode, value := item.get("name"), item.get("value")
		name, ok := c.text(nameNode)
		if nameNode == nil {
			c.missing(item, "name", "is missing", `write {"name": "NAME", "value": "value"}`)
			continue
		}
		if !ok {
			continue
		}
		c.checkEnvName(nameNode, name)
		_, twice := env[name]
		switch {
		case value == nil:
			c.missing(item, "value", "is missing", `write {"name": "NAME", "value": "value"}`)
		case value.bad:
		case value.kind == kindObject || value.kind == kindArray:
			c.refuse(value, "is "+string(value.kind)+" where a text is expected", "put it between double quotes")
		case strings.ContainsRune(value.text, 0):
			c.refuse(value, "holds a NUL character", "remove it")
		case slices.Contains(own, name):
			c.warn(nameNode, "is a variable that Chronos sets itself: its own value stays", "give the variable another name")
		case twice:
			c.refuse(nameNode, "names a variable for the second time", "remove one of the two")
		default:
			env[name] = value.text
		}
	}
	if len(env) == 0 {
		return nil
	}
	return env
}

// schedule reads how often and from when, and checks the deadline against it.
func (c *chronosFile) schedule(spec *Spec) {
	n, zone := c.root.get("schedule"), c.root.get("scheduleTimeZone")
	if n == nil {
		if !c.root.has("parents") && !c.root.has("schedule") {
			c.warnMissing(c.root, "schedule", "is missing: the job runs once, at once, as in Chronos", `add "schedule": "R1//P"`)
		}
		spec.Iterations = 1
		return
	}
	text, ok := c.text(n)
	if !ok {
		return
	}
	s, err := ParseSchedule(text)
	if err != nil {
		c.refuseFault(n, err)
		return
	}
	spec.Iterations, spec.Start = s.Iterations, s.Start
	if s.Period > 0 {
		c.warn(n, "has a period, which is not used: an iteration begins when the one before it has ended", "write P, a period of nothing")
	}
	if c.zone(zone, n, s); zone == nil || !zone.bad {
		c.checkStart(n, spec)
	}
}

// zone checks the time zone of a schedule. Other zones than UTC would need a table that differs from node to node.
func (c *chronosFile) zone(zone, schedule *node, s Schedule) {
	name, ok := c.text(zone)
	switch {
	case ok && name != "" && s.Start.IsZero():
		c.warn(zone, "has no effect: the schedule has no start", "remove it")
	case ok && name != "" && !slices.Contains([]string{"UTC", "GMT", "Z", "Etc/UTC"}, name):
		c.refuse(zone, "is a zone other than UTC", "write the offset into the start: R4/2030-01-31T18:00:00+01:00/P")
	case !s.Start.IsZero() && !s.Zoned && name == "":
		c.warn(schedule, "has a start without a zone: it is read as UTC", "write a Z or an offset after it")
	}
}

// checkStart compares the start with now and with the deadline, which counts from it. A start that is past is as none.
func (c *chronosFile) checkStart(n *node, spec *Spec) {
	start, now := spec.Start, c.opts.Now
	deadline := c.root.get("qos").get("deadline")
	switch at := spec.QoS.Deadline.At; {
	case start.IsZero():
	case !now.IsZero() && !start.After(now):
		c.warn(n, "has a start that is past: the job begins at once, and the deadline counts from its submission", "leave the start empty")
	case !now.IsZero() && start.Sub(now) > MaxTime:
		c.refuse(n, "has a start more than ten years away", "write a nearer one")
	case deadline != nil && !deadline.bad && !at.IsZero() && !at.After(start):
		c.refuse(deadline, "is not after the start of the schedule, "+start.Format(time.RFC3339), "write a later time")
	}
}

// constraints checks the placement constraints by Chronos' rules.
func (c *chronosFile) constraints() {
	n := c.root.get("constraints")
	if n == nil || n.bad {
		return
	}
	for _, item := range n.items {
		parts, ok := c.constraint(item, 3)
		if !ok {
			continue
		}
		switch op := parts[1]; {
		case op == "LIKE" || op == "UNLIKE":
			c.checkPattern(item, parts[2])
		case op != "EQUALS":
			c.refuse(item, "has an operator that Chronos would drop without a word", "write EQUALS, LIKE or UNLIKE, in capitals")
		}
	}
}

// container reads a job's container into the shape of Marathon's.
func (c *chronosFile) container() *Container {
	n := c.root.get("container")
	if n == nil || n.bad || n.kind != kindObject {
		return nil
	}
	if n.get("image") == nil {
		c.missing(n, "image", "is missing: Chronos would run the command outside of any container, without a word", `add "image": "my-image", or remove container`)
		return nil
	}
	out := &Container{Type: "DOCKER", Image: c.imageOf(n), ForcePull: c.boolean(n.get("forcePullImage")), Network: c.network(n)}
	if text, ok := c.text(n.get("type")); ok {
		if out.Type = strings.ToUpper(text); out.Type != "DOCKER" && out.Type != "MESOS" {
			c.refuse(n.get("type"), "is no type of container", "write DOCKER or MESOS")
		}
	}
	out.Parameters = c.parameters(n.get("parameters"), c.inPlace)
	out.Volumes = c.volumes(n.get("volumes"), true)
	return out
}

func (c *chronosFile) network(container *node) string {
	n := container.get("network")
	if n == nil {
		return "host"
	}
	name, _ := c.text(container.get("networkName"))
	if infos := container.get("networkInfos"); name == "" && infos != nil && !infos.bad && len(infos.items) > 0 {
		name, _ = c.text(infos.items[0].get("name"))
	}
	text, ok := c.text(n)
	switch {
	case !ok:
	case text == "HOST":
		return "host"
	case text == "BRIDGE":
		return "bridge"
	case text == "USER" && name == "":
		c.refuse(n, "is USER without a name of the network", `add "networkName": "my-network"`)
	case text == "USER":
		return name
	case slices.Contains([]string{"HOST", "BRIDGE", "USER"}, strings.ToUpper(text)):
		c.refuse(n, "is not in capitals, which Chronos fails on", "write "+strings.ToUpper(text))
	default:
		c.refuse(n, "is no network that Chronos knows", "write HOST, BRIDGE or USER, in capitals")
	}
	return ""
}
