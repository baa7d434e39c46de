package qos

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Defaults that Marathon has for what an app does not say, in CPUs and MiB.
const (
	marathonCPUs = 1
	marathonMem  = 128
)

// maxName bounds the names of jobs: they become names of files, labels and paths.
const maxName = 255

// idSegment is what Marathon allows between two slashes of an id.
var idSegment = regexp.MustCompile(`^(([a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])\.)*([a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])$`)

// marathonFile reads an app after the walk over the field table.
type marathonFile struct {
	*file
	root    *node
	inPlace bool
}

func (m *marathonFile) read(spec *Spec) {
	spec.Name, spec.Tenant = m.id()
	spec.CPUs, spec.MemoryMiB = marathonCPUs, marathonMem
	if cpus, ok := m.number(m.root.get("cpus")); ok {
		spec.CPUs = cpus
	}
	if mem, ok := m.number(m.root.get("mem")); ok {
		spec.MemoryMiB = mem
	}
	m.instances()
	spec.Container = m.container()
	m.hostPorts(spec.Container)
	spec.Process = m.process()
	m.constraints()
	m.labels()
	m.exclusive(m.root, "uris", "fetch")
	m.exclusive(m.root, "ports", "portDefinitions")
}

// id reads the app's id: its absolute form, and the group part as tenant.
func (m *marathonFile) id() (name, tenant string) {
	n := m.root.get("id")
	text, ok := m.text(n)
	if !ok {
		return "", ""
	}
	const remedy = `write lower case letters, digits and dashes between slashes, as "/group/my-job"`
	segments := strings.Split(strings.TrimPrefix(text, "/"), "/")
	last := segments[len(segments)-1]
	switch {
	case text == "" || text == "/":
		m.refuse(n, "is the root group, not an app", remedy)
	case len(text) > maxName:
		m.refuse(n, fmt.Sprintf("is longer than %d characters", maxName), "write a shorter one")
	case slices.Contains([]string{"restart", "tasks", "versions"}, last):
		m.refuse(n, "ends in "+last+", which Marathon keeps for itself", "give the app another name")
	}
	for _, segment := range segments {
		switch {
		case segment == "":
			m.refuse(n, "has an empty part: two slashes, or one at the end", remedy)
		case segment == "." || segment == "..":
			m.refuse(n, "is a relative path: it has a part "+segment, remedy)
		case idSegment.MatchString(segment):
		case strings.ToLower(segment) != segment:
			m.refuse(n, "has capital letters, which Marathon refuses", remedy)
		case strings.Contains(segment, "_"):
			m.refuse(n, "has an underscore, which Marathon refuses", "write a dash instead")
		case strings.HasPrefix(segment, "-") || strings.HasSuffix(segment, "-"):
			m.refuse(n, "has a part that begins or ends with a dash, which Marathon refuses", remedy)
		default:
			m.refuse(n, "has characters that Marathon refuses", remedy)
		}
	}
	if n.bad {
		return "", ""
	}
	tenant = strings.Join(segments[:len(segments)-1], "/")
	if tenant != "" {
		tenant = "/" + tenant
	}
	return "/" + strings.Join(segments, "/"), tenant
}

func (m *marathonFile) instances() {
	n := m.root.get("instances")
	count, ok := m.integer(n)
	switch {
	case !ok:
	case count == 0:
		m.refuse(n, "is 0: nothing would run", "write 1, or leave it out")
	case count > 1 && !m.inPlace:
		m.refuse(n, "is more than 1: a held job has one container", `write 1, or set "elasticity": "inplace" in the qos block`)
	}
}

// hostPorts warns of ports that a container with a network of its own does not see.
func (m *marathonFile) hostPorts(c *Container) {
	for _, key := range []string{"ports", "portDefinitions"} {
		if n := m.root.get(key); n != nil && !n.bad && !n.empty() && c != nil && c.Network != "host" && c.Network != "" {
			m.warn(n, "is for the host's network: the ports are not mapped into the container", "use container.portMappings")
		}
	}
}

// process reads what is to be run, and as whom.
func (m *marathonFile) process() Process {
	p := Process{Env: m.env()}
	cmd, args := m.root.get("cmd"), m.root.get("args")
	p.Command, _ = m.text(cmd)
	if args != nil && !args.bad {
		for _, item := range args.items {
			p.Args = append(p.Args, item.text)
		}
	}
	switch {
	case cmd != nil && cmd.bad, args != nil && args.bad:
	case cmd != nil && len(p.Args) > 0:
		m.refuse(args, "stands beside cmd, and Marathon takes only one of them", "remove cmd or args")
	case cmd != nil && len(p.Command) < 2:
		m.refuse(cmd, "is shorter than 2 characters, which Marathon refuses", "write a command, such as \"sleep 60\"")
	case cmd != nil && strings.TrimSpace(p.Command) == "":
		m.refuse(cmd, "is blank", "write a command, such as \"sleep 60\"")
	case len(p.Args) > 0 && p.Args[0] == "" && m.image() == "":
		m.refuse(args, "begins with an empty text where the program's name should be", "write the program first")
	case cmd == nil && len(p.Args) == 0 && m.image() == "":
		m.missing(m.root, "cmd", "is missing, and so are args and a container with an image", `add what is to be run: "cmd": "./my-program"`)
	}
	user := m.root.get("user")
	p.User, _ = m.text(user)
	return p
}

// image returns the image that the file names, or "".
func (m *marathonFile) image() string {
	text, _ := m.text(m.root.get("container").get("docker").get("image"))
	return text
}

// env reads the environment: texts only, since Marathon takes no others.
func (m *marathonFile) env() map[string]string {
	n := m.root.get("env")
	if n == nil || n.bad || len(n.members) == 0 {
		return nil
	}
	env := map[string]string{}
	for _, v := range n.members {
		m.checkEnvName(v.value, v.key)
		switch {
		case v.value.kind == kindObject && m.inPlace: // a secret of Marathon's, which is none of ours
		case v.value.kind == kindObject:
			m.refuse(v.value, "takes its value from a secret, which the agent cannot read", setInPlace)
		case v.value.kind != kindText:
			m.refuse(v.value, "is "+string(v.value.kind)+" where Marathon takes only texts", "put it between double quotes")
		case strings.ContainsRune(v.value.text, 0):
			m.refuse(v.value, "holds a NUL character", "remove it")
		default:
			env[v.key] = v.value.text
		}
	}
	if len(env) == 0 {
		return nil
	}
	return env
}

// checkEnvName refuses names that no environment can hold, and those that are qosctl's own.
func (f *file) checkEnvName(n *node, name string) {
	switch {
	case name == "" || strings.ContainsAny(name, "=\x00"):
		f.refuse(n, "is not a name for an environment variable", "write letters, digits and underscores")
	case strings.HasPrefix(name, "QOSCTL_"):
		f.refuse(n, "has a name beginning with QOSCTL_, which qosctl keeps for itself", "give the variable another name")
	}
}

func (m *marathonFile) labels() {
	n := m.root.get("labels")
	if n == nil || n.bad {
		return
	}
	for _, label := range n.members {
		switch {
		case label.value.kind != kindText:
			m.refuse(label.value, "is "+string(label.value.kind)+" where a label has a text", "put it between double quotes")
		case strings.HasPrefix(label.key, "qosctl."):
			m.refuse(label.value, "has a name beginning with qosctl., which qosctl keeps for itself", "give the label another name")
		}
	}
}

// constraints checks the placement constraints by Marathon's rules.
func (m *marathonFile) constraints() {
	n := m.root.get("constraints")
	if n == nil || n.bad {
		return
	}
	for _, item := range n.items {
		parts, ok := m.constraint(item, 2)
		if !ok {
			continue
		}
		switch op := strings.ToUpper(parts[1]); op {
		case "UNIQUE":
			if len(parts) == 3 {
				m.refuse(item, "has a value, and UNIQUE takes none", "remove the value")
			}
		case "CLUSTER", "GROUP_BY":
		case "LIKE", "UNLIKE", "MAX_PER", "IS":
			if len(parts) == 2 {
				m.refuse(item, "has no value, and "+op+" needs one", `write ["attribute", "`+op+`", "value"]`)
			}
		default:
			m.refuse(item, "has an operator that Marathon does not know", "write one of UNIQUE, CLUSTER, GROUP_BY, LIKE, UNLIKE, MAX_PER, IS")
		}
		if len(parts) == 3 && strings.HasSuffix(strings.ToUpper(parts[1]), "LIKE") {
			m.checkPattern(item, parts[2])
		}
	}
}

// constraint reads one constraint: a list of texts, of which the last may be missing if least is 2.
func (f *file) constraint(n *node, least int) ([]string, bool) {
	ok := n.kind == kindArray && len(n.items) >= least && len(n.items) <= 3
	var parts []string
	for _, item := range n.items {
		ok = ok && item.kind == kindText
		parts = append(parts, item.text)
	}
	if !ok || parts[0] == "" {
		f.refuse(n, "is no constraint", `write ["attribute", "OPERATOR", "value"], all of them texts`)
		return nil, false
	}
	return parts, true
}

// checkPattern refuses what is no regular expression in any dialect. Java has more than Go: what only Java knows is let pass.
func (f *file) checkPattern(n *node, pattern string) {
	if _, err := regexp.Compile(pattern); err != nil && !strings.Contains(pattern, "(?") && !strings.Contains(pattern, "+") {
		f.refuse(n, "has a value that is no regular expression", "LIKE and UNLIKE compare the whole text with it")
	}
}

// exclusive refuses two names of one thing in the same file.
func (f *file) exclusive(root *node, older, newer string) {
	a, b := root.get(older), root.get(newer)
	if a != nil && b != nil && !a.empty() && !b.empty() {
		f.refuse(a, "stands beside "+newer+", and only one of them can be", "remove "+older)
	}
}
