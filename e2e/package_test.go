package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"qosctl/e2e/node"
	"qosctl/qos"
)

// TestPackageLife installs the deb on a node whose first process is systemd, runs a job, upgrades and goes back under it, kills and hangs the
// agent, stops it, removes and purges the package.
func TestPackageLife(t *testing.T) {
	h := startHost(t, node.Options{Release: node.Bookworm}, debs(t))
	h.install(older)
	if n, err := h.api.Node(t.Context()); err != nil || n.Mode != "observe" {
		t.Errorf("a fresh installation is in mode %q, %v", n.Mode, err)
	}
	if got := h.sh("stat -c '%U:%G %a' /run/qosctl/qosctl.sock /etc/qosctl/agent.yaml"); got != "root:qosctl 660\nroot:root 640\n" {
		t.Errorf("owners and modes: %s", got)
	}
	h.verified()
	h.configure("act")
	h.is(older)
	id := h.submit(spinning("/spin"))
	p := h.payload(id)
	for _, version := range []string{newer, older, newer} {
		h.install(version)
		if out := h.sh("qosctl version"); !strings.Contains(out, version) {
			t.Errorf("after installing %s: %s", version, out)
		}
		h.untouched(id, p, "version "+version)
	}
	if mode := h.sh("qosctl config show | grep '  mode:'"); strings.TrimSpace(mode) != "mode: act" {
		t.Errorf("after the upgrades: %s", mode)
	}
	h.restarted(id, p)
	h.released(id, p)
	h.purged(id, p)
}

// verified has systemd look at the units, and prints how exposed it finds each: the agent, and what does for it what it can't do from within.
func (h *host) verified() {
	h.t.Helper()
	for name, most := range map[string]float64{unit: 4.0, "qosctl-job@1.service": 5.0, "qosctl-dump@1.service": 10} {
		if out := h.sh("systemd-analyze verify --man=no --recursive-errors=no " + name + " 2>&1"); strings.TrimSpace(out) != "" {
			h.t.Errorf("systemd-analyze verify %s: %s", name, out)
		}
		out := h.sh("systemd-analyze security --no-pager " + name)
		m := regexp.MustCompile(`Overall exposure level for ` + regexp.QuoteMeta(name) + `: ([0-9.]+)`).FindStringSubmatch(out)
		if m == nil {
			h.t.Fatalf("systemd-analyze security %s: %s", name, out)
		}
		h.t.Logf("%s: exposure level %s", name, m[1])
		if score, err := strconv.ParseFloat(m[1], 64); err != nil || score > most {
			h.t.Errorf("%s: exposure level %s: more than %.1f", name, m[1], most)
		}
	}
}

// restarted kills the agent, and hangs it: systemd starts it again, and the job does not notice.
func (h *host) restarted(id string, p payload) {
	h.t.Helper()
	h.sh("mkdir -p /run/systemd/system/" + unit + ".d && printf '[Service]\\nWatchdogSec=3s\\n' >/run/systemd/system/" + unit + ".d/short.conf && systemctl daemon-reload && systemctl restart " + unit)
	h.is(newer)
	for signal, result := range map[string]string{"KILL": "killed", "STOP": "watchdog"} {
		before := h.show("MainPID")
		h.sh("kill -" + signal + " " + before)
		h.until("after SIG"+signal+" systemd has started another agent", time.Minute, func() bool {
			pid := h.show("MainPID")
			return pid != before && pid != "0" && h.show("ActiveState") == "active"
		})
		h.is(newer)
		h.untouched(id, p, "agent "+result)
	}
}

// released takes CPUs from the job: a restart leaves it so, a stop gives them back.
func (h *host) released(id string, p payload) {
	h.t.Helper()
	h.configure("observe") // so that the agent itself leaves the quota alone
	h.is(newer)
	const less = 20000 // of 100000: 0.2 CPUs, half of the request
	h.sh(fmt.Sprintf("echo %d >/sys/fs/cgroup/cpu%s/cpu.cfs_quota_us", less, p.cgroup))
	h.sh("systemctl restart " + unit)
	h.is(newer)
	if q := h.number(p, "cpu.cfs_quota_us"); q != less {
		h.t.Errorf("a restart made a quota of %d one of %.0f", less, q)
	}
	h.sh("systemctl stop " + unit)
	if q := h.number(p, "cpu.cfs_quota_us"); q != 40000 {
		h.t.Errorf("a stop left a quota of %.0f, not the request's 40000", q)
	}
	h.sh("systemctl start " + unit)
	h.is(newer)
	h.untouched(id, p, "agent stopped and started")
}

// purged ends the job and takes the package out.
func (h *host) purged(id string, p payload) {
	h.t.Helper()
	h.sh("qosctl cancel " + id)
	h.until("the job is gone", time.Minute, func() bool { return h.job(id).Phase.Terminal() })
	// Without Docker it can't be known whether containers were made by the runtime: it is not removed, unless that is forced.
	h.sh("mkdir -p /usr/libexec/qosctl && cp /usr/bin/qosctl /usr/libexec/qosctl/qosctl-runtime")
	if out, err := h.n.Run(h.t.Context(), "dpkg", "-r", "qosctl"); err == nil || !strings.Contains(out, "QOSCTL_FORCE_REMOVE=1") {
		h.t.Errorf("removed under the OCI runtime: %v: %s", err, out)
	}
	h.is(newer)
	h.sh("QOSCTL_FORCE_REMOVE=1 dpkg -r qosctl")
	if out := h.sh("systemctl is-active " + unit + " || true; ls /usr/bin/qosctl 2>&1 || true; ls /etc/qosctl /var/lib/qosctl /usr/libexec/qosctl"); !strings.Contains(out, "inactive") ||
		!strings.Contains(out, "No such file") || !strings.Contains(out, "agent.yaml") || !strings.Contains(out, "qosctl-runtime") {
		h.t.Errorf("after the removal: %s", out)
	}
	h.sh("rm -r /usr/libexec/qosctl")
	h.install(newer) // what was removed and not purged begins again where it was
	if mode := h.sh("qosctl config show | grep '  mode:'"); strings.TrimSpace(mode) != "mode: observe" {
		h.t.Errorf("after the return: %s", mode)
	}
	h.t.Log(h.sh("dpkg -P qosctl"))
	h.nothingLeft()
}

// nothingLeft looks for what a purge should have taken. The copies of Docker's configuration as it was are its operator's.
func (h *host) nothingLeft() {
	h.t.Helper()
	left := h.sh(`find / -xdev -name '*qosctl*' -not -path '/proc/*' -not -path '/packages/*' -not -path '/var/lib/mesos/*' -not -path '/run/systemd/system/*' -not -path /var/lib/qosctl -not -path '/etc/docker/daemon.json.qosctl-*'; ls -A /var/lib/qosctl; ` +
		`find /sys/fs/cgroup /run -name '*qosctl*' -not -path '/run/systemd/*' -not -path '*/system.slice/*'; getent group qosctl; systemctl list-unit-files --no-legend '*qosctl*' || true`)
	if strings.TrimSpace(left) != "" {
		h.t.Errorf("after the purge: %s", left)
	}
}

// TestPackageWithDocker does the same where Docker and CRIU are: a job is checkpointed by the confined agent and restored by our OCI runtime,
// the package is upgraded under the restored container, and not removed under it.
func TestPackageWithDocker(t *testing.T) {
	h := startHost(t, node.Options{Release: node.Trixie}, debs(t))
	h.sh(imageScript)
	h.install(older)
	if said := h.sh("qosctl oci-runtime install"); !strings.Contains(said, "registered in") {
		t.Errorf("install of the OCI runtime: %s", said)
	}
	h.configure("act")
	h.is(older)
	h.until("the agent can checkpoint", 2*time.Minute, func() bool {
		d, err := h.api.Doctor(t.Context())
		return err == nil && d.Driver == "runtime"
	})
	f := dockerApp("/count", "while :; do :; done")
	f["qos"] = spinning("")["qos"]
	id := h.submit(f)
	before := h.job(id)
	h.sh("qosctl checkpoint " + id + " --stop")
	h.until("it goes on", 2*time.Minute, func() bool {
		j := h.job(id)
		return j.Phase == qos.PhaseRunning && j.Epoch > before.Epoch && j.Progress > before.Progress
	})
	p := h.payload(id)
	for _, version := range []string{newer, older} {
		h.install(version)
		h.untouched(id, p, "version "+version)
		if a, b := h.sh("sha256sum </usr/bin/qosctl"), h.sh("sha256sum </usr/libexec/qosctl/qosctl-runtime"); a != b {
			t.Errorf("version %s: the OCI runtime is of another", version)
		}
	}
	if out, err := h.n.Run(t.Context(), "dpkg", "-r", "qosctl"); err == nil || !strings.Contains(out, "were made by it") {
		t.Errorf("removed under a restored container: %v: %s", err, out)
	}
	h.untouched(id, p, "removal refused")
	h.sh("qosctl cancel " + id)
	h.until("the job is gone", time.Minute, func() bool { return h.job(id).Phase.Terminal() })
	h.sh("docker rm -f $(docker ps --all --quiet)")
	h.sh("dpkg -P qosctl")
	if left := h.sh("cat /etc/docker/daemon.json; ls /usr/libexec"); strings.Contains(left, "qosctl") {
		t.Errorf("after the purge: %s", left)
	}
}
