package e2e

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/agent/bundle/bundletest"
	"qosctl/e2e/node"
)

// TestPackageOnV2 is the package's life where trixie's systemd wants it: on cgroup v2 alone. The cpu controller is missing in the v2 hierarchy of
// a machine that has it in v1 (as those on which these tests run most likely): jobs can't be given quotas there, which the doctor says, so that the
// agent observes. What runs is a job whose container Mesos makes, and one that our OCI runtime has made. Whether quotas are written on v2 is
// seen on fixtures alone (package cgroup).
func TestPackageOnV2(t *testing.T) {
	const secret = "planted-in-the-environment"
	h := startHost(t, node.Options{Release: node.Trixie, V2: true}, debs(t), "--docker", "--cgroup-root", "/none")
	h.sh(imageScript)
	h.install(older)
	if n, err := h.api.Node(t.Context()); err != nil || n.Mode != "observe" || n.Cgroup != "v2" {
		t.Errorf("a fresh installation: %+v, %v", n, err)
	}
	if got := h.sh("stat -c '%U:%G %a' /run/qosctl/qosctl.sock /etc/qosctl/agent.yaml"); got != "root:qosctl 660\nroot:root 640\n" {
		t.Errorf("owners and modes: %s", got)
	}
	h.verified()
	if said := h.sh("qosctl oci-runtime install"); !strings.Contains(said, "registered in") {
		t.Errorf("install of the OCI runtime: %s", said)
	}
	h.configure("observe")
	h.is(older)
	h.examined()
	f := dockerApp("/count", "while :; do :; done")
	f["qos"] = spinning("")["qos"]
	f["qos"].(map[string]any)["elasticity"] = "inplace"
	f["env"] = map[string]string{"DB_PASSWORD": secret}
	id := h.submit(f)
	p := h.payload(id)
	ours := strings.TrimSpace(h.sh("docker run --detach --runtime qosctl --network none " + shell + " sleep 1000"))
	pid := h.sh("docker inspect --format '{{.State.Pid}}' " + ours)
	for _, version := range []string{newer, older, newer} {
		h.install(version)
		h.untouched(id, p, "version "+version)
		if a, b := h.sh("sha256sum </usr/bin/qosctl"), h.sh("sha256sum </usr/libexec/qosctl/qosctl-runtime"); a != b {
			t.Errorf("version %s: the OCI runtime is of another", version)
		}
	}
	h.restarted(id, p)
	h.bundled(secret)
	if out, err := h.n.Run(t.Context(), "dpkg", "-r", "qosctl"); err == nil || !strings.Contains(out, "were made by it") {
		t.Errorf("removed under a container of our runtime: %v: %s", err, out)
	}
	h.untouched(id, p, "removal refused")
	if now := h.sh("docker inspect --format '{{.State.Pid}}' " + ours); now != pid {
		t.Errorf("the container of our runtime was process %s, is %s", pid, now)
	}
	h.sh("qosctl cancel " + id)
	h.until("the job is gone", time.Minute, func() bool { return h.job(id).Phase.Terminal() })
	h.sh("docker rm -f $(docker ps --all --quiet)")
	h.sh("dpkg -r qosctl")
	if out := h.sh("systemctl is-active " + unit + " || true; ls /etc/qosctl /var/lib/qosctl"); !strings.Contains(out, "inactive") || !strings.Contains(out, "agent.yaml") {
		t.Errorf("after the removal: %s", out)
	}
	h.sh("dpkg -P qosctl")
	h.nothingLeft()
}

// examined has the doctor look at a node of which it is known what is missing.
func (h *host) examined() {
	h.t.Helper()
	var d api.Doctor
	h.until("the self-test is over", 2*time.Minute, func() bool {
		out, err := h.n.Run(h.t.Context(), "sh", "-c", "qosctl doctor -o json; test $? = 12")
		if err != nil || json.Unmarshal([]byte(out), &d) != nil {
			h.t.Fatalf("qosctl doctor: %v: %s", err, out)
		}
		return !strings.Contains(out, "it is under way")
	})
	for name, want := range map[string]struct {
		level api.Level
		says  string
	}{
		"cgroup.hierarchy": {api.LevelOK, "cgroup v2"}, "cgroup.cpu": {api.LevelFault, "no cpu controller"}, "cgroup.write": {api.LevelOK, ""}, "docker.answers": {api.LevelOK, "Docker 26"},
		"docker.cgroups": {api.LevelOK, "cgroup v2"}, "docker.runtime": {api.LevelOK, "of this build"}, "framework.answers": {api.LevelOK, ""}, "mesos.agent": {api.LevelOK, "answers"},
		"mesos.attribute": {api.LevelOK, "qosctl:true"}, "rights.sockets": {api.LevelOK, ""}, "rights.helper": {api.LevelOK, ".sock"}, "rights.config": {api.LevelOK, ""}, "run.command": {api.LevelOK, ""},
		"agent.version": {api.LevelOK, older}, "clock.sync": {api.LevelSkipped, "timedatectl"},
	} {
		found := false
		for _, c := range d.Checks {
			if c.Name != name {
				continue
			}
			found = true
			if c.Level != want.level || !strings.Contains(c.Text+c.Cause, want.says) {
				h.t.Errorf("%+v", c)
			}
		}
		if !found {
			h.t.Errorf("nothing was found by %s: %+v", name, d.Checks)
		}
	}
}

// bundled has a debug bundle made, and looks for what is to be in it and for a planted secret.
func (h *host) bundled(secret string) {
	h.t.Helper()
	h.t.Log(h.sh("qosctl debug bundle -o /tmp/bundle.tar.gz && stat -c %a /tmp/bundle.tar.gz"))
	files := bundletest.Open(h.t, h.n.Path("/tmp/bundle.tar.gz"))
	for name, text := range files {
		bundletest.Scan(h.t, name, text, map[string]string{"a value of a job's environment": secret})
	}
	for name, want := range map[string]string{
		"journal.txt": "agent ready", "system.txt": "==> criu --version\nVersion: ", "cgroups.txt": "cgroup2", "doctor.json": "docker.runtime", "jobs.json": "/count", "metrics.txt": "qosctl_", "goroutines.txt": "goroutine", "state.json": "\"rows\"",
	} {
		if !strings.Contains(string(files[name]), want) {
			h.t.Errorf("%s has no %q: %.300s", name, want, files[name])
		}
	}
	if err := os.Remove(h.n.Path("/tmp/bundle.tar.gz")); err != nil {
		h.t.Error(err)
	}
}
