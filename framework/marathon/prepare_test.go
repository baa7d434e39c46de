package marathon

import (
	"bytes"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/framework"
	"qosctl/qos"
)

var update = flag.Bool("update", false, "write the golden files anew")

// parse reads a job file as the agent does, with an id that stays the same.
func parse(t *testing.T, data []byte) qos.Spec {
	t.Helper()
	spec, _, err := qos.Parse(data, qos.ParseOptions{Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)})
	if err != nil {
		t.Fatal(err)
	}
	spec.ID = "1b4e28ba-2fa1-41d2-883f-0016d3cca427"
	spec.Submitted = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return spec
}

func options() PrepareOptions {
	return PrepareOptions{Command: "/usr/bin/qosctl", Secret: "s3cr3t", Socket: "/run/qosctl/standin.sock", Constraint: "qosctl", Version: Version{1, 11}}
}

// prepare prepares a job file and decodes what Marathon gets.
func prepare(t *testing.T, file string, o PrepareOptions) (map[string]any, []string) {
	t.Helper()
	body, warnings, err := Prepare(parse(t, []byte(file)), o)
	if err != nil {
		t.Fatal(err)
	}
	var app map[string]any
	if err := json.Unmarshal(body, &app); err != nil {
		t.Fatal(err)
	}
	return app, warnings
}

func TestPrepareOfTheThesisJobs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../qos/testdata/thesis/marathon-*.json")
	if err != nil || len(files) != 3 {
		t.Fatalf("%d job files of the thesis (%v), want 3", len(files), err)
	}
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			spec := parse(t, data)
			body, warnings, err := Prepare(spec, options())
			if err != nil || len(warnings) > 0 {
				t.Fatalf("error %v, warnings %v", err, warnings)
			}
			golden(t, filepath.Join("testdata", name+".golden"), checkSpec(t, spec, body))
		})
	}
}

// checkSpec holds QOSCTL_SPEC against the spec, and takes it out: what gzip makes of it is nobody's contract.
func checkSpec(t *testing.T, spec qos.Spec, body json.RawMessage) []byte {
	t.Helper()
	var app map[string]any
	if err := json.Unmarshal(body, &app); err != nil {
		t.Fatal(err)
	}
	env := app["env"].(map[string]any)
	got, err := framework.DecodeSpec(env[framework.EnvSpec].(string))
	if err != nil {
		t.Fatal(err)
	}
	spec.Source = nil
	if diff := cmp.Diff(spec, got); diff != "" {
		t.Errorf("spec in the environment (-sent +got):\n%s", diff)
	}
	env[framework.EnvSpec] = "(spec)"
	out, err := json.MarshalIndent(app, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(out, '\n')
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s differs (-want +got), -update writes it anew:\n%s", path, cmp.Diff(string(want), string(got)))
	}
}

func TestPrepareHoldsTheContainerBack(t *testing.T) {
	t.Parallel()
	app, _ := prepare(t, `{"id":"/g/job","cmd":"./run <in >out","cpus":"0.5","mem":"64","env":{"A":"b"},"user":"me","backoffSeconds":7,
		"labels":{"team":"x"},"constraints":[["hostname","UNLIKE","bad"]],"taskKillGracePeriodSeconds":300,"backoffFactor":"1.5",
		"upgradeStrategy":{"minimumHealthCapacity":1},"networks":[{"mode":"container/bridge"}],
		"container":{"type":"DOCKER","docker":{"image":"i"},"portMappings":[{"containerPort":80,"hostPort":0,"name":"web"},{"containerPort":53,"hostPort":0,"protocol":"udp"}]},
		"qos":{"duration":10,"desv_deadline":0.1,"deadline":20,"executions":3}}`, options())
	want := map[string]any{
		"id": "/g/job", "cmd": "exec /usr/bin/qosctl run", "cpus": 0.5, "mem": 64.0, "instances": 1.0, "user": "me", "backoffSeconds": 7.0,
		"backoffFactor": 1.5, "taskKillGracePeriodSeconds": 300.0, "unreachableStrategy": "disabled",
		"upgradeStrategy": map[string]any{"minimumHealthCapacity": 0.0, "maximumOverCapacity": 0.0},
		"labels": map[string]any{
			"team": "x", "MARATHON_SINGLE_INSTANCE_APP": "true", "qosctl.job": "1b4e28ba-2fa1-41d2-883f-0016d3cca427",
			"qosctl.duration": "10", "qosctl.deadline": "20s", "qosctl.desv_deadline": "0.1", "qosctl.executions": "3",
		},
		"constraints": []any{[]any{"hostname", "UNLIKE", "bad"}, []any{"qosctl", "LIKE", ".+"}},
		"portDefinitions": []any{
			map[string]any{"port": 0.0, "protocol": "tcp", "name": "web"}, map[string]any{"port": 0.0, "protocol": "udp"},
		},
	}
	env := app["env"].(map[string]any)
	if env["A"] != "b" || env["QOSCTL_SECRET"] != "s3cr3t" || env["QOSCTL_SOCKET"] != "/run/qosctl/standin.sock" {
		t.Errorf("environment %v", env)
	}
	delete(app, "env")
	if diff := cmp.Diff(want, app); diff != "" {
		t.Errorf("app (-want +got):\n%s", diff)
	}
}

func TestPrepareForMarathon14(t *testing.T) {
	t.Parallel()
	o := options()
	o.Version = Version{1, 4}
	app, _ := prepare(t, `{"id":"/a","cmd":"true","qos":{"duration":1,"desv_deadline":0.1,"deadline":2}}`, o)
	strategy, ok := app["unreachableStrategy"].(map[string]any)
	if !ok || strategy["inactiveAfterSeconds"].(float64) >= strategy["expungeAfterSeconds"].(float64) || strategy["inactiveAfterSeconds"].(float64) < 1e8 {
		t.Errorf("unreachableStrategy %v: 1.4 knows no disabled one, and needs inactive < expunge", app["unreachableStrategy"])
	}
	app, _ = prepare(t, `{"id":"/a","cmd":"true","networks":[{"mode":"container/bridge"}],
		"container":{"type":"DOCKER","docker":{"image":"i"},"portMappings":[{"containerPort":80}]},
		"qos":{"duration":1,"desv_deadline":0.1,"deadline":2,"elasticity":"inplace"}}`, o)
	docker := app["container"].(map[string]any)["docker"].(map[string]any)
	if app["networks"] != nil || docker["network"] != "BRIDGE" || docker["portMappings"] == nil || app["container"].(map[string]any)["portMappings"] != nil {
		t.Errorf("1.4 gets the shapes of 1.5: %v", app)
	}
}

func TestPrepareInPlaceLeavesTheAppAlone(t *testing.T) {
	t.Parallel()
	app, warnings := prepare(t, `{"id":"/a","cmd":"true","cpus":"2","instances":"3","disk":"10","healthChecks":[{"protocol":"COMMAND","command":{"value":"true"}}],
		"container":{"type":"DOCKER","docker":{"image":"i","network":"HOST","privileged":"true"}},
		"upgradeStrategy":{"minimumHealthCapacity":"1","maximumOverCapacity":0.5},"version":null,
		"qos":{"duration":1,"desv_deadline":0.1,"deadline":2,"elasticity":"inplace"}}`, options())
	want := map[string]any{
		"id": "/a", "cmd": "true", "cpus": 2.0, "mem": 128.0, "instances": 3.0, "disk": 10.0,
		"healthChecks":    []any{map[string]any{"protocol": "COMMAND", "command": map[string]any{"value": "true"}}},
		"container":       map[string]any{"type": "DOCKER", "docker": map[string]any{"image": "i", "network": "HOST", "privileged": true}},
		"upgradeStrategy": map[string]any{"minimumHealthCapacity": 1.0, "maximumOverCapacity": 0.5},
		"constraints":     []any{[]any{"qosctl", "LIKE", ".+"}},
		"labels": map[string]any{
			"qosctl.job": "1b4e28ba-2fa1-41d2-883f-0016d3cca427", "qosctl.duration": "1", "qosctl.deadline": "2s", "qosctl.desv_deadline": "0.1",
		},
	}
	if diff := cmp.Diff(want, app); diff != "" || len(warnings) > 0 {
		t.Errorf("warnings %v, app (-want +got):\n%s", warnings, diff)
	}
}

func TestPrepareOfFixedPorts(t *testing.T) {
	t.Parallel()
	const form = `{"id":"/a","cmd":"true","networks":[{"mode":"container/bridge"}],"container":{"type":"DOCKER","docker":{"image":"i"},
		"portMappings":[{"containerPort":80,"hostPort":31080},{"containerPort":81,"hostPort":PORT}]},"qos":{"duration":1,"desv_deadline":0.1,"deadline":2}}`
	app, warnings := prepare(t, strings.Replace(form, "PORT", "31081", 1), options())
	if app["requirePorts"] != true || len(warnings) != 0 {
		t.Errorf("fixed ports: requirePorts %v, warnings %v", app["requirePorts"], warnings)
	}
	app, warnings = prepare(t, strings.Replace(form, "PORT", "0", 1), options())
	if app["requirePorts"] != nil || len(warnings) != 1 {
		t.Errorf("mixed ports: requirePorts %v, warnings %v", app["requirePorts"], warnings)
	}
}

func TestPrepareOfALargeJobLeavesTheSpecOut(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 12000)
	for i := range noise {
		noise[i] = byte('a' + random.IntN(26))
	}
	spec := parse(t, []byte(`{"id":"/a","cmd":"true","env":{"A":"`+string(noise)+`"},"qos":{"duration":1,"desv_deadline":0.1,"deadline":2}}`))
	body, warnings, err := Prepare(spec, options())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(body, []byte(framework.EnvSpec)) || len(warnings) != 1 {
		t.Errorf("the spec is in an environment that it is too large for, or nothing is said (warnings %v)", warnings)
	}
}

func TestPrepareRefuses(t *testing.T) {
	t.Parallel()
	good := parse(t, []byte(`{"id":"/a","cmd":"true","qos":{"duration":1,"desv_deadline":0.1,"deadline":2}}`))
	tests := []struct {
		name   string
		change func(*qos.Spec, *PrepareOptions)
	}{
		{"a job for Chronos", func(s *qos.Spec, _ *PrepareOptions) { s.Framework = qos.Chronos }},
		{"no secret", func(_ *qos.Spec, o *PrepareOptions) { o.Secret = "" }},
		{"no command", func(_ *qos.Spec, o *PrepareOptions) { o.Command = "" }},
		{"no id", func(s *qos.Spec, _ *PrepareOptions) { s.ID = "" }},
		{"a source that is no JSON", func(s *qos.Spec, _ *PrepareOptions) { s.Source = []byte("{") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			spec, o := good, options()
			tt.change(&spec, &o)
			if body, _, err := Prepare(spec, o); err == nil {
				t.Errorf("taken: %s", body)
			}
		})
	}
}
