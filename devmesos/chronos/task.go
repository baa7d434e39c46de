package chronos

import (
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"

	"qosctl/devmesos/node"
)

const nameText = `[\w\.-]+`

var nameForm = regexp.MustCompile(`^` + nameText + `$`)

// taskID is ct:<due>:<attempt>:<job>:<arguments>.
func taskID(j *Job, q queued) string {
	args := strings.ReplaceAll(strings.Join(j.Arguments, " "), ";", "")
	return fmt.Sprintf("ct:%d:%d:%s:%s", q.due.UnixMilli(), q.attempt, j.Name, args)
}

// task is what a job's run is to Mesos. Chronos sets no kill policy.
func task(j *Job, q queued, id, host string) node.Task {
	command := j.Command
	if len(j.Arguments) > 0 { // appended to a shell's command, too
		command += " " + strings.ReplaceAll(strings.Join(j.Arguments, " "), ";", "")
	}
	user := j.RunAsUser
	if user == "root" {
		user = "" // whoever the scheduler runs as: an ordinary user has no other choice
	}
	t := node.Task{
		ID: id, Name: "ChronosTask:" + j.Name, Framework: frameworkName, Command: command, User: user, CPUs: j.CPUs, MemMiB: j.Mem, DiskMiB: j.Disk,
		Env: map[string]string{},
	}
	if !j.Shell {
		t.Command, t.Args = "", append([]string{j.Command}, j.Arguments...)
	}
	if j.Container != nil {
		t.Image, t.Docker = j.Container.Image, docker(j.Container)
	}
	for _, f := range j.Fetch {
		t.Fetch = append(t.Fetch, node.Fetch{URI: f.URI, Executable: f.Executable, OutputFile: f.OutputFile})
	}
	for _, uri := range j.URIs {
		t.Fetch = append(t.Fetch, node.Fetch{URI: uri})
	}
	for _, v := range j.EnvironmentVariables {
		t.Env[v.Name] = v.Value
	}
	maps.Copy(t.Env, map[string]string{ // these win
		"mesos_task_id": id, "MESOS_TASK_ID": id, "CHRONOS_JOB_OWNER": j.Owner, "CHRONOS_JOB_NAME": j.Name, "HOST": host,
		"CHRONOS_RESOURCE_MEM": javaDouble(j.Mem), "CHRONOS_RESOURCE_CPU": javaDouble(j.CPUs), "CHRONOS_RESOURCE_DISK": javaDouble(j.Disk),
		"CHRONOS_JOB_RUN_TIME": strconv.FormatInt(q.due.UnixMilli(), 10), "CHRONOS_JOB_RUN_ATTEMPT": strconv.Itoa(q.attempt),
	})
	return t
}

// javaDouble prints a number as Java does: 1 is 1.0.
func javaDouble(f float64) string {
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// meets checks constraints. A missing attribute meets none of them, not even UNLIKE (the opposite of Marathon).
func meets(constraints [][]string, o node.Offer) bool {
	for _, c := range constraints {
		got, ok := o.Attributes[c[0]]
		if c[0] == "hostname" {
			got, ok = o.Hostname, true
		}
		if !ok {
			return false
		}
		re, err := regexp.Compile(`^(?:` + c[2] + `)$`)
		switch c[1] {
		case "EQUALS":
			ok = got == c[2]
		case "LIKE":
			ok = err == nil && re.MatchString(got)
		case "UNLIKE":
			ok = err == nil && !re.MatchString(got)
		}
		if !ok {
			return false
		}
	}
	return true
}

// docker is the Docker side of a job's container; nil: Mesos' own containerizer runs it.
func docker(c *Container) *node.Container {
	if c.Type != "DOCKER" {
		return nil
	}
	d := &node.Container{Network: strings.ToLower(c.Network), ForcePull: c.ForcePullImage}
	if c.Network == "USER" {
		d.Network = c.NetworkName
	}
	for _, p := range c.Parameters {
		d.Parameters = append(d.Parameters, node.Parameter(p))
	}
	for _, v := range c.Volumes {
		if v.HostPath != "" {
			d.Volumes = append(d.Volumes, strings.TrimSuffix(v.HostPath+":"+v.ContainerPath+":"+strings.ToLower(v.Mode), ":"))
		}
	}
	return d
}
