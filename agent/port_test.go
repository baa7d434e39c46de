package agent

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"qosctl/framework/chronos"
	"qosctl/framework/marathon"
	"qosctl/qos"
)

// What the frameworks are given, and show again, tells whose secret is a job's; what launchers hand in tells of none.
func TestTheFrameworksTellWhoseSecretIsAJobs(t *testing.T) {
	t.Parallel()
	parse := func(file string) qos.Spec {
		t.Helper()
		spec, _, err := qos.Parse([]byte(file), qos.ParseOptions{Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		spec.ID = idA
		return spec
	}
	const secret = "the-secret-of-the-job"
	app, _, err := marathon.Prepare(parse(sleeper), marathon.PrepareOptions{Command: "/usr/bin/qosctl", Secret: secret, Socket: "/s"})
	var a marathon.App
	if err == nil {
		err = json.Unmarshal(app, &a)
	}
	if err != nil || !bytes.Equal(envSecret(a.Env), hashSecret(secret)) {
		t.Errorf("Marathon: %v, %v", a.Env, err)
	}
	job, _, err := chronos.Prepare(parse(`{"name":"s","command":"true","schedule":"R3//PT1M","cpus":0.2,"mem":32,"qos":{"duration":1,"desv_deadline":0.2,"deadline":60}}`),
		chronos.PrepareOptions{Command: "/usr/bin/qosctl", Secret: secret, Socket: "/s"})
	var j chronos.Job
	if err == nil {
		err = json.Unmarshal(job, &j)
	}
	if err != nil || !bytes.Equal(envSecret(j.Env), hashSecret(secret)) {
		t.Errorf("Chronos: %v, %v", j.Env, err)
	}
	if got := envSecret(map[string]string{"UUID": idA}); got != nil {
		t.Errorf("without one: %x", got)
	}
}
