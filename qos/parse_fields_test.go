package qos

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const qosBlock = `"qos": {"duration": 400, "desv_deadline": 0.2, "deadline": 1800}`

// parseOne parses a file made of the fields given and a qos block, with keys of the block beside.
func parseOne(t *testing.T, fields, keys string) (Spec, []Warning, error) {
	t.Helper()
	block := qosBlock
	if keys != "" {
		block = strings.TrimSuffix(qosBlock, "}") + ", " + keys + "}"
	}
	return Parse([]byte("{"+fields+",\n"+block+"}"), testOptions())
}

func TestContainerShapes(t *testing.T) {
	t.Parallel()
	const marathon = `"id": "a", "container": {"docker": {"image": "i:1"`
	for name, test := range map[string]struct {
		fields string
		want   Container
	}{
		"older shape": {
			marathon + `, "network": "BRIDGE", "privileged": "true", "parameters": [{"key": "hostname", "value": "h"}],
			 "portMappings": [{"containerPort": 80, "hostPort": "0", "protocol": "udp", "name": "web"}]},
			 "volumes": [{"containerPath": "/d", "hostPath": "/s", "mode": "RO"}]}`,
			Container{
				Type: "DOCKER", Image: "i:1", Privileged: true, Network: "bridge", Ports: []PortMapping{{ContainerPort: 80, Protocol: "udp", Name: "web"}},
				Volumes: []Volume{{ContainerPath: "/d", HostPath: "/s", ReadOnly: true}}, Parameters: []Parameter{{"hostname", "h"}},
			},
		},
		"newer shape": {
			marathon + `}, "type": "MESOS", "portMappings": [{"containerPort": 80}]}, "networks": [{"mode": "container/bridge"}]`,
			Container{Type: "MESOS", Image: "i:1", Network: "bridge", Ports: []PortMapping{{ContainerPort: 80, Protocol: "tcp"}}},
		},
		"named network":         {marathon + `}}, "networks": [{"name": "lab"}]`, Container{Type: "DOCKER", Image: "i:1", Network: "lab"}},
		"host network":          {marathon + `}}, "networks": [{"mode": "host"}]`, Container{Type: "DOCKER", Image: "i:1", Network: "host"}},
		"no network named":      {marathon + `}}`, Container{Type: "DOCKER", Image: "i:1", Network: "host"}},
		"none":                  {marathon + `, "network": "NONE"}}`, Container{Type: "DOCKER", Image: "i:1", Network: "none"}},
		"ipAddress":             {marathon + `}}, "ipAddress": {"networkName": "lab"}`, Container{Type: "DOCKER", Image: "i:1", Network: "lab"}},
		"USER and ipAddress":    {marathon + `, "network": "USER"}}, "ipAddress": {"networkName": "lab"}`, Container{Type: "DOCKER", Image: "i:1", Network: "lab"}},
		"no image":              {`"id": "a", "cmd": "./x", "container": {"type": "MESOS"}`, Container{Type: "MESOS", Network: "host"}},
		"ports dropped on HOST": {marathon + `, "network": "HOST", "portMappings": [{"containerPort": 80}]}}`, Container{Type: "DOCKER", Image: "i:1", Network: "host"}},
		"Chronos": {
			`"name": "a", "command": "x", "container": {"type": "docker", "image": "i:1", "network": "USER", "networkInfos": [{"name": "lab"}],
			 "volumes": [{"containerPath": "/d", "hostPath": "/s", "mode": "rw"}], "forcePullImage": "true"}`,
			Container{Type: "DOCKER", Image: "i:1", ForcePull: true, Network: "lab", Volumes: []Volume{{ContainerPath: "/d", HostPath: "/s"}}},
		},
	} {
		spec, _, err := parseOne(t, test.fields, "")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(&test.want, spec.Container); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestSpecs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fields, keys string
		want         Spec
	}{
		"Marathon's defaults": {
			`"id": "job", "args": ["./x", "1"]`, "",
			Spec{Name: "/job", Framework: Marathon, CPUs: 1, MemoryMiB: 128, Process: Process{Args: []string{"./x", "1"}}},
		},
		"groups are the tenant": {
			`"id": "/lab/maths/job", "cmd": "./x", "user": "ada", "env": {"A": "1"}, "cpus": "0.5", "mem": 64`, "",
			Spec{
				Name: "/lab/maths/job", Tenant: "/lab/maths", Framework: Marathon, CPUs: 0.5, MemoryMiB: 64,
				Process: Process{Command: "./x", User: "ada", Env: map[string]string{"A": "1"}},
			},
		},
		"Chronos' defaults, and values that are coerced": {
			`"name": "job", "command": "./x", "environmentVariables": [{"name": "N", "value": 2}, {"name": "B", "value": true}]`, "",
			Spec{
				Name: "job", Framework: Chronos, CPUs: 0.1, MemoryMiB: 128, Iterations: 1,
				Process: Process{Command: "./x", Env: map[string]string{"N": "2", "B": "true"}},
			},
		},
		"Chronos' arguments": {
			`"name": "job", "command": "./x", "arguments": ["a", "b;c"], "cpus": 1, "mem": 1, "runAsUser": "ada"`, "",
			Spec{Name: "job", Framework: Chronos, CPUs: 1, MemoryMiB: 1, Iterations: 1, Process: Process{Command: "./x a bc", User: "ada"}},
		},
		"in place": {
			`"id": "job", "cmd": "./x", "instances": 3, "gpus": 1, "healthChecks": [{"protocol": "TCP"}], "dependencies": ["/db"], "tty": true,
			 "env": {"S": {"secret": "s"}}, "secrets": {"s": {"source": "/s"}}, "resourceLimits": {"mem": "unlimited"}, "executor": "/e",
			 "upgradeStrategy": {"minimumHealthCapacity": 1}, "container": {"docker": {"image": "i", "parameters": [{"key": "rm", "value": "true"}]},
			 "volumes": [{"containerPath": "d", "persistent": {"size": 1}, "mode": "RW"}]}`, `"elasticity": "inplace"`,
			Spec{
				Name: "/job", Framework: Marathon, CPUs: 1, MemoryMiB: 128, Process: Process{Command: "./x"}, QoS: QoS{Elasticity: ElasticityInPlace},
				Container: &Container{Type: "DOCKER", Image: "i", Network: "host", Parameters: []Parameter{{"rm", "true"}}},
			},
		},
		"in place in Chronos is by Chronos": {
			`"name": "job", "schedule": "R2//PT1M", "command": "./x", "cpus": 1, "mem": 1, "arguments": ["a"], "shell": false, "maxCompletionTime": 9`,
			`"elasticity": "inplace"`,
			Spec{
				Name: "job", Framework: Chronos, CPUs: 1, MemoryMiB: 1, Iterations: 2, Process: Process{Command: "./x"},
				QoS: QoS{Elasticity: ElasticityInPlace, IterationsBy: IterationsByChronos},
			},
		},
		"all of the qos block": {
			`"id": "job", "cmd": "./x"`,
			`"executions": "2", "max_failures": 3, "min_cpus": "0.5", "max_cpus": 1.5, "weight": 2, "elasticity": "auto", "policy": "step"`,
			Spec{
				Name: "/job", Framework: Marathon, CPUs: 1, MemoryMiB: 128, Process: Process{Command: "./x"},
				QoS: QoS{Executions: 2, MaxFailures: 3, MinCPUs: 0.5, MaxCPUs: 1.5, Weight: 2, Elasticity: ElasticityAuto, Policy: "step"},
			},
		},
	} {
		got, _, err := parseOne(t, test.fields, test.keys)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		test.want.QoS.Duration, test.want.QoS.Deviation, test.want.QoS.Deadline.After = 400, 0.2, 1800e9
		if diff := cmp.Diff(test.want, got, cmpopts.IgnoreFields(Spec{}, "Source")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	for fields, want := range map[string]string{
		`"id": "a", "cmd": "./x", "memory": 5`:                                                   `$.memory: is an unknown field: Marathon would drop it without a word; did you mean mem?`,
		`"id": "a", "cmd": "./x", "zzz": {"password": "hunter2"}`:                                `$.zzz: is an unknown field: Marathon would drop it without a word; remove it`,
		`"id": "a", "cmd": "./x", "container": {"docker": {"image": "i", "privilegd": 1}}`:       `$.container.docker.privilegd: is an unknown field: Marathon would drop it without a word; did you mean privileged?`,
		`"id": "a", "cmd": "./x", "container.type": 5`:                                           `$["container.type"]: is an unknown field: Marathon would drop it without a word; remove it`,
		`"id": "a", "cmd": "./x", "upgradeStrategy": {"minimumHealthCapacity": 1}`:               `$.upgradeStrategy: is ignored: 0/0 is sent: any other starts the new task while the old one is still being checkpointed (got {"minimumHealthCapacity":1}); remove it`,
		`"id": "a", "cmd": "./x", "tasksRunning": 1`:                                             `$.tasksRunning: is ignored: stands in Marathon's answers only (got 1); remove it`,
		`"name": "a", "command": "x", "cpus": 1, "mem": 1, "schedule": "R1/2025-01-01Z/P"`:       ``,
		`"name": "a", "command": "x", "cpus": 1, "mem": 1, "schedule": "R1/2025-01-01/P"`:        `$.schedule: has a start without a zone: it is read as UTC (got "R1/2025-01-01/P"); write a Z or an offset after it` + "\n" + `$.schedule: has a start that is past: the job begins at once, and the deadline counts from its submission (got "R1/2025-01-01/P"); leave the start empty`,
		`"id": "a", "container": {"docker": {"image": "i", "network": "BRIDGE"}}, "ports": [80]`: `$.ports: is for the host's network: the ports are not mapped into the container (got [80]); use container.portMappings`,
		`"name": "a", "command": "x", "cpus": 1, "mem": 1, "cmd": "y"`:                           `$.schedule: is missing: the job runs once, at once, as in Chronos; add "schedule": "R1//P"` + "\n" + `$.cmd: is an unknown field: Chronos would drop it without a word; did you mean command?`,
		`"name": "a", "command": "x", "cpus": 1, "mem": 1, "schedule": "R1//PT1S", "retries":3`:  `$.schedule: has a period, which is not used: an iteration begins when the one before it has ended (got "R1//PT1S"); write P, a period of nothing` + "\n" + `$.retries: is ignored: 0 is sent: a retry in Chronos can make a finite schedule infinite; max_failures in the qos block bounds failures (got 3); remove it`,
		`"name": "a", "command": "x", "mem": 1, "schedule": "R1//P", "concurrent": false`:        `$.cpus: is missing: 0.1 is sent, the default of Chronos; add "cpus": 0.1, or what the job needs`,
	} {
		_, warnings, err := parseOne(t, fields, "")
		if want == "" {
			if err == nil {
				t.Errorf("%s is not refused", fields)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", fields, err)
		}
		var got []string
		for _, w := range warnings {
			w.Line = 0
			got = append(got, w.String())
		}
		if diff := cmp.Diff(want, strings.Join(got, "\n")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", fields, diff)
		}
	}
}

func TestAllProblemsComeAtOnceInFileOrder(t *testing.T) {
	t.Parallel()
	data := `{
  "id": "/Lab",
  "cpus": -1,
  "qos": {
    "duration": 0,
    "deadline": "soon"
  },
  "cmd": "x",
  "gpus": 2
}`
	_, _, err := Parse([]byte(data), ParseOptions{File: "job.json"})
	var got []string
	for _, p := range problemsOf(t, err) {
		got = append(got, fmt.Sprintf("%s:%d:%d %s", p.File, p.Line, p.Column, p.Path))
	}
	want := []string{
		"job.json:2:9 $.id", "job.json:3:11 $.cpus", "job.json:4:10 $.qos.desv_deadline", "job.json:5:17 $.qos.duration", "job.json:6:17 $.qos.deadline",
		"job.json:8:10 $.cmd", "job.json:9:11 $.gpus",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if lines := strings.Count(err.Error(), "\n") + 1; lines != len(want) {
		t.Errorf("the error has %d lines for %d problems", lines, len(want))
	}
}

func TestSecretsAreNeverQuoted(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for _, fields := range []string{
		`"id": "A", "env": {"PASSWORD": ["hunter2"]}`,
		`"id": "a", "cmd": "./x", "env": "hunter2"`,
		`"id": "a", "cmd": "./x", "container": {"docker": {"image": "i", "parameters": [{"key": "env", "value": {"hunter2": 1}}]}}`,
		`"id": "a", "cmd": "./x", "container": {"docker": {"image": "i", "credential": {"principal": "p", "secret": "hunter2"}}}`,
		`"id": "a", "cmd": "./x", "uris": [5, "http://me:hunter2@lab/"]`,
		`"id": "a", "cmd": "./x", "passwort": "hunter2", "gpus": 1`,
		`"name": "a", "command": "./x", "environmentVariables": [{"name": "P", "value": ["hunter2"]}]`,
		`"name": "a", "command": "./x", "environmentVariables": {"P": "hunter2"}`,
		`"id": "a", "env": {"P": "hunter2"`,
		`"id": "a", "env": {"P": hunter2}`,
	} {
		_, warnings, err := parseOne(t, fields, "")
		if err == nil {
			t.Errorf("%s is not refused", fields)
			continue
		}
		if text := err.Error() + fmt.Sprint(warnings); strings.Contains(text, secret) {
			t.Errorf("the secret stands in: %s", text)
		}
	}
}

func TestParseQoS(t *testing.T) {
	t.Parallel()
	q, _, err := ParseQoS([]byte(`{"duration": 400, "desv_deadline": 0.2, "deadline": "30m", "elasticity": "inplace"}`), Marathon, testOptions())
	if want := (QoS{Duration: 400, Deviation: 0.2, Deadline: Deadline{After: 1800e9}, Elasticity: ElasticityInPlace}); err != nil || q != want {
		t.Errorf("got %+v, %v, want %+v", q, err, want)
	}
	for block, words := range map[string]string{
		`{"duration": -1, "desv_deadline": 0.2, "deadline": 5}`:        "$.qos.duration: is negative (got -1)",
		`{"duration": 1, "desv_deadline": 0.2, "deadline": 5}, "x": 1`: "is more than a qos block",
		`{}}`: "is followed by something else",
		``:    "is not JSON",
		`{"duration": 1, "desv_deadline": 0.2, "deadline": 5, "max_cpus": 0.05}`:          "less than the configured min_cpus",
		`{"duration": 1, "desv_deadline": 0.2, "deadline": 5, "min_cpus": 3}`:             "more than the configured max_cpus",
		`{"duration": 1, "desv_deadline": 0.2, "deadline": 5, "iterations_by": "agent"} `: "is for Chronos",
	} {
		if _, _, err := ParseQoS([]byte(block), Marathon, testOptions()); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: want an error with %q, got %v", block, words, err)
		}
	}
}

func TestTheFieldTablesAreSound(t *testing.T) {
	t.Parallel()
	for _, framework := range []Framework{Marathon, Chronos} {
		types := map[string]FieldType{}
		for _, field := range Fields(framework) {
			if _, twice := types[field.Name]; twice {
				t.Errorf("%s: %s stands twice", framework, field.Name)
			}
			types[field.Name] = field.Type
			if field.Reason == "" || field.Type == "" {
				t.Errorf("%s: %s has no reason or type", framework, field.Name)
			}
			if refused := field.Held == Refused || field.InPlace == Refused; refused && field.Remedy == "" && field.Name != "qos" {
				t.Errorf("%s: %s is refused without a remedy", framework, field.Name)
			}
			if i := strings.LastIndexByte(field.Name, '.'); i >= 0 {
				if parent := types[field.Name[:i]]; parent != ObjectField && parent != ObjectsField {
					t.Errorf("%s: %s stands below %q, whose type is %q", framework, field.Name, field.Name[:i], parent)
				}
			}
		}
	}
}

// TestJobsDoc holds the tables of docs/jobs.md to the tables of this package, and its examples to the parser.
func TestJobsDoc(t *testing.T) {
	t.Parallel()
	const name = "../docs/jobs.md"
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, framework := range []Framework{Marathon, Chronos} {
		begin, end := fmt.Sprintf("<!-- fields of %s: written by go test ./qos -run TestJobsDoc -update -->\n", framework), fmt.Sprintf("<!-- end of fields of %s -->", framework)
		before, rest, found := strings.Cut(text, begin)
		_, after, closed := strings.Cut(rest, end)
		if !found || !closed {
			t.Fatalf("%s has no place for the fields of %s", name, framework)
		}
		text = before + begin + fieldsMarkdown(framework) + end + after
	}
	golden(t, name, text)
	for _, key := range qosKeys() {
		if !strings.Contains(text, "| `"+key+"` |") {
			t.Errorf("%s does not explain the key %s", name, key)
		}
	}
	examples := 0
	for _, part := range strings.Split(text, "```json\n")[1:] {
		example, _, _ := strings.Cut(part, "```")
		opts := testOptions()
		opts.File = filepath.Base(name)
		if _, warnings, err := Parse([]byte(example), opts); err != nil {
			t.Errorf("an example is refused: %v\n%s", err, example)
		} else if strings.Contains(fmt.Sprint(warnings), "unknown") {
			t.Errorf("an example has %v\n%s", warnings, example)
		}
		examples++
	}
	if examples < 3 {
		t.Errorf("%s has %d examples", name, examples)
	}
}

// fieldsMarkdown returns the table of Fields as docs/jobs.md shows it.
func fieldsMarkdown(framework Framework) string {
	var b strings.Builder
	b.WriteString("| field | type | held by the agent | in place | what is done, and why |\n|---|---|---|---|---|\n")
	for _, field := range Fields(framework) {
		reason := field.Reason
		if field.Remedy != "" {
			reason += "; " + field.Remedy
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", field.Name, field.Type, field.Held, field.InPlace, strings.ReplaceAll(reason, "|", `\|`))
	}
	return b.String()
}
