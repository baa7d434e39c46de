package doctor

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qosctl/agent/api"
	"qosctl/framework"
	"qosctl/monasca"
	"qosctl/monasca/monascatest"
)

// closed is an address at which nobody listens.
func closed(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// serve answers paths with bodies; a body that begins with a number is an error's.
func serve(t *testing.T, answers map[string]string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := answers[r.URL.Path]
		code := http.StatusOK
		switch {
		case strings.HasPrefix(body, "401"):
			code = http.StatusUnauthorized
		case strings.HasPrefix(body, "403"):
			code = http.StatusForbidden
		case !ok:
			code, body = http.StatusNotFound, `{"message":"no such route"}`
		}
		w.Header().Set("Content-Type", "application/json")
		if strings.HasPrefix(body, "<") {
			w.Header().Set("Content-Type", "text/html")
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// dockerd is a Docker on a socket of its own, as version and info answer.
func dockerd(t *testing.T, api string, info map[string]any) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "doctor") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "docker.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", api)
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/version"):
			_ = json.NewEncoder(w).Encode(map[string]any{"Version": "26.1.5", "ApiVersion": api, "MinAPIVersion": "1.24"})
		case strings.HasSuffix(r.URL.Path, "/info"):
			_ = json.NewEncoder(w).Encode(info)
		default:
			_, _ = w.Write([]byte("OK"))
		}
	})}}
	s.Start()
	t.Cleanup(func() { s.Close(); _ = os.RemoveAll(dir) })
	return "unix://" + path
}

func TestDocker(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"ours": "a program", "same": "a program", "other": "another program"})
	info := func(live bool, version, runtime string) map[string]any {
		m := map[string]any{"LiveRestoreEnabled": live, "CgroupVersion": version, "CgroupDriver": "cgroupfs", "Runtimes": map[string]any{"runc": map[string]any{"path": "runc"}}}
		if runtime != "" {
			m["Runtimes"] = map[string]any{"qosctl": map[string]any{"path": filepath.Join(dir, runtime)}}
		}
		return m
	}
	probe := func(address string) Probe {
		return Docker{Address: address, Cgroups: "v1", Runtime: "qosctl", Wanted: true, Program: filepath.Join(dir, "ours")}.Probe()
	}
	good := probe(dockerd(t, "1.45", info(true, "1", "same")))
	for _, e := range []Entry{DockerAnswers, DockerLive, DockerCgroups, DockerRuntime} {
		wants(t, named(t, e, good), api.LevelOK)
	}
	wants(t, named(t, DockerAnswers, good), api.LevelOK, "Docker 26.1.5", "API 1.45")
	bad := probe(dockerd(t, "1.40", info(false, "2", "")))
	wants(t, named(t, DockerAnswers, bad), api.LevelWarning, "1.40", "20.10")
	wants(t, named(t, DockerLive, bad), api.LevelWarning, `"live-restore": true`)
	wants(t, named(t, DockerCgroups, bad), api.LevelWarning, "cgroup v2", "v1 was found")
	wants(t, named(t, DockerRuntime, bad), api.LevelWarning, "qosctl oci-runtime install")
	wants(t, named(t, DockerRuntime, probe(dockerd(t, "1.45", info(true, "1", "other")))), api.LevelWarning, "another build")
	wants(t, named(t, DockerRuntime, probe(dockerd(t, "1.45", info(true, "1", "gone")))), api.LevelFault, "no such file")
	wants(t, only(t, probe("unix://"+filepath.Join(dir, "none.sock"))), api.LevelFault, "does not answer", "systemctl status docker")
	wants(t, only(t, probe("")), api.LevelSkipped, "engine.docker")
}

func TestCheckpointsBesideDocker(t *testing.T) {
	t.Parallel()
	root, own := t.TempDir(), small(t, "size=1m")
	below := filepath.Join(root, "checkpoints")
	if err := os.Mkdir(below, 0o700); err != nil {
		t.Fatal(err)
	}
	probe := func(storage, store string) Probe {
		return Docker{Address: dockerd(t, "1.45", map[string]any{"DockerRootDir": root, "Driver": storage}), Store: store}.Probe()
	}
	for _, storage := range []string{"overlay2", "overlayfs"} {
		wants(t, named(t, DockerStore, probe(storage, below)), api.LevelWarning, "the same file system", "that of "+root, "checkpoint.dir", "tmpfs")
		wants(t, named(t, DockerStore, probe(storage, own)), api.LevelOK, "another file system", root)
	}
	wants(t, named(t, DockerStore, probe("vfs", below)), api.LevelSkipped, "vfs")
	wants(t, named(t, DockerStore, probe("overlay2", "")), api.LevelSkipped, "no checkpoints")
	wants(t, named(t, DockerStore, probe("overlay2", filepath.Join(root, "none"))), api.LevelSkipped, "no such file")
}

func TestMountsAreFoundByTheirIDs(t *testing.T) {
	t.Parallel()
	// Two subvolumes of one btrfs: stat tells two devices, mountinfo one.
	mounts := []byte("29 1 0:26 /@ / rw,relatime shared:1 - btrfs /dev/vda2 rw\n31 29 0:26 /@var /var rw - btrfs /dev/vda2 rw\n32 29 8:1 / /boot rw - ext4 /dev/vda1 rw\n")
	for id, want := range map[string]string{"29": "0:26", "31": "0:26", "32": "8:1", "3": "", "": ""} {
		if got := mountDevice(mounts, id); got != want {
			t.Errorf("mount %q is of %q, want %q", id, got, want)
		}
	}
}

func TestFrameworks(t *testing.T) {
	t.Parallel()
	good := serve(t, map[string]string{"/v2/info": `{"name":"marathon","version":"1.11.0","elected":true}`})
	old := serve(t, map[string]string{"/v2/info": `{"name":"marathon","version":"1.3.5","elected":true}`})
	refuses := serve(t, map[string]string{"/v2/info": `401 {"message":"Invalid username or password."}`})
	other := serve(t, map[string]string{"/v2/info": "<html><body>It works!</body></html>"})
	chronos3 := serve(t, map[string]string{"/v1/scheduler/jobs": "[]"})
	chronos2 := serve(t, map[string]string{"/scheduler/jobs": "[]"})
	silent := "http://" + closed(t)
	ask := func(kind string, urls ...string) Probe {
		return Framework{Name: "main", Type: kind, Endpoint: framework.Endpoint{Name: "main", URLs: urls, Username: "u", Password: "geheim"}}.Probe()
	}
	for name, c := range map[string]struct {
		p                       Probe
		answers, login, version api.Level
		says                    string
	}{
		"good":             {ask("marathon", good), api.LevelOK, api.LevelOK, api.LevelOK, "Marathon 1.11.0"},
		"old":              {ask("marathon", old), api.LevelOK, api.LevelOK, api.LevelWarning, "older than 1.4"},
		"refuses":          {ask("marathon", refuses), api.LevelOK, api.LevelFault, api.LevelSkipped, "401 Unauthorized"},
		"silent":           {ask("marathon", silent), api.LevelFault, api.LevelSkipped, api.LevelSkipped, "connection refused"},
		"one of two":       {ask("marathon", silent, good), api.LevelWarning, api.LevelOK, api.LevelOK, "1 of 2 URLs"},
		"something else":   {ask("marathon", other), api.LevelFault, api.LevelSkipped, api.LevelSkipped, "something else answers there"},
		"chronos 3":        {ask("chronos", chronos3), api.LevelOK, api.LevelOK, api.LevelOK, "Chronos 3"},
		"chronos 2":        {ask("chronos", chronos2), api.LevelOK, api.LevelOK, api.LevelOK, "Chronos 2"},
		"no credentials":   {Framework{Name: "main", Type: "marathon", Err: os.ErrNotExist}.Probe(), api.LevelSkipped, api.LevelFault, api.LevelSkipped, "can't be used"},
		"chronos refuses":  {ask("chronos", serve(t, map[string]string{"/v1/scheduler/jobs": "401"})), api.LevelOK, api.LevelFault, api.LevelSkipped, "401"},
		"not this Chronos": {ask("chronos", good), api.LevelFault, api.LevelSkipped, api.LevelSkipped, "neither"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list := c.p.Look(t.Context())
			said := ""
			for i, level := range []api.Level{c.answers, c.login, c.version} {
				wants(t, list[i], level)
				said += list[i].Text + list[i].Cause + list[i].Remedy
			}
			if !strings.Contains(said, c.says) || strings.Contains(said, "geheim") {
				t.Errorf("%q is not in %q, or a secret is", c.says, said)
			}
		})
	}
}

func TestMesos(t *testing.T) {
	t.Parallel()
	const state = `{"id":"S1","hostname":"n1","version":"1.11.0","resources":{"cpus":8,"mem":1024},"attributes":{"qosctl":"true"},"frameworks":[]}`
	agent := serve(t, map[string]string{"/slave(1)/state": state})
	bare := serve(t, map[string]string{"/slave(1)/state": strings.Replace(state, "qosctl", "rack", 1)})
	good := Mesos{URL: agent, Constraint: "qosctl"}
	wants(t, named(t, MesosAgent, good.Probes()...), api.LevelOK, "1.11.0 of n1", "8 CPUs")
	wants(t, named(t, MesosAttr, good.Probes()...), api.LevelOK)
	wants(t, named(t, MesosAttr, Mesos{URL: bare, Constraint: "qosctl"}.Probes()...), api.LevelWarning, "--attributes=qosctl:true")
	wants(t, named(t, MesosAttr, Mesos{URL: bare}.Probes()...), api.LevelSkipped)
	wants(t, named(t, MesosAgent, Mesos{URL: "http://" + closed(t)}.Probes()...), api.LevelFault, "connection refused")
	wants(t, named(t, MesosAgent, Mesos{URL: serve(t, map[string]string{"/slave(1)/state": "{}"})}.Probes()...), api.LevelFault, "no agent in it")
	wants(t, named(t, MesosAgent, Mesos{}.Probes()...), api.LevelSkipped)
	const list = `{"slaves":[{"id":"S1","hostname":"n1","pid":"slave(1)@192.0.2.1:5051","active":true}]}`
	for name, c := range map[string]struct {
		url, host string
		level     api.Level
		says      string
	}{
		"good":     {serve(t, map[string]string{"/slaves": list}), "n1", api.LevelOK, "n1"},
		"stranger": {serve(t, map[string]string{"/slaves": list}), "n2", api.LevelWarning, "n2 is not among its 1 agents"},
		"silent":   {"http://" + closed(t), "n1", api.LevelFault, "connection refused"},
		"401":      {serve(t, map[string]string{"/slaves": "401"}), "n1", api.LevelFault, "refuses our credentials"},
		"403":      {serve(t, map[string]string{"/slaves": "403"}), "n1", api.LevelWarning, "does not permit"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := Mesos{Host: c.host, Masters: framework.Endpoint{Name: "mesos master", URLs: []string{c.url}}}
			wants(t, named(t, MesosMaster, m.Probes()...), c.level, c.says)
		})
	}
	wants(t, named(t, MesosMaster, Mesos{}.Probes()...), api.LevelSkipped)
}

func TestKeystoneAndMonasca(t *testing.T) {
	t.Parallel()
	const password = "geheim-genug"
	k := &monascatest.Keystone{User: "qosctl", Password: password, Project: "mesos", Roles: monascatest.Agent}
	ks, strange := httptest.NewServer(k), &monascatest.Keystone{User: "qosctl", Password: password, Project: "mesos", Roles: monascatest.Stranger}
	ss := httptest.NewServer(strange)
	ms, theirs := httptest.NewServer(&monascatest.Monasca{Role: k.Role}), httptest.NewServer(&monascatest.Monasca{Role: strange.Role}) // both number their tokens alike
	t.Cleanup(func() { ks.Close(); ss.Close(); ms.Close(); theirs.Close() })
	with := func(keystone, monascaURL, password string) Monasca {
		file := filepath.Join(t.TempDir(), "cred.json")
		text, err := json.Marshal(map[string]string{"keystone_url": keystone, "monocasca_client_url": monascaURL, "username": "qosctl", "password": password, "project_name": "mesos"})
		if err == nil {
			err = os.WriteFile(file, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return Monasca{Options: monasca.Options{Credentials: file}}
	}
	for name, c := range map[string]struct {
		m            Monasca
		login, taken api.Level
		says         string
	}{
		"good":             {with(ks.URL, ms.URL, password), api.LevelOK, api.LevelOK, "user qosctl in project mesos"},
		"wrong password":   {with(ks.URL, ms.URL, "falsch-genug"), api.LevelFault, api.LevelSkipped, "check username, password"},
		"no Keystone":      {with("http://"+closed(t), ms.URL, password), api.LevelFault, api.LevelSkipped, "connection refused"},
		"not Keystone":     {with(ms.URL, ms.URL, password), api.LevelFault, api.LevelSkipped, "Keystone"},
		"no Monasca":       {with(ks.URL, "http://"+closed(t), password), api.LevelOK, api.LevelFault, "connection refused"},
		"nobody of theirs": {with(ss.URL, theirs.URL, password), api.LevelOK, api.LevelFault, "monasca-agent"},
		"no file":          {Monasca{Options: monasca.Options{Credentials: filepath.Join(t.TempDir(), "none")}}, api.LevelFault, api.LevelSkipped, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list := c.m.Probes()[0].Look(t.Context())
			wants(t, list[0], c.login)
			wants(t, list[1], c.taken)
			said := list[0].Text + list[0].Cause + list[1].Text + list[1].Cause + list[1].Remedy
			if !strings.Contains(said, c.says) || strings.Contains(said, "-genug") {
				t.Errorf("%q is not in %q, or a secret is", c.says, said)
			}
		})
	}
	wants(t, only(t, Monasca{}.Probes()[0]), api.LevelSkipped)
	stats := func(s monasca.Stats) Monasca {
		return Monasca{Options: monasca.Options{Credentials: "x"}, Stats: &s}
	}
	wants(t, stats(monasca.Stats{DiskFault: "no space left"}).spool(), api.LevelFault, "no space left")
	wants(t, stats(monasca.Stats{State: monasca.Retrying, Fault: "Monasca answered 503"}).spool(), api.LevelWarning, "503")
	wants(t, stats(monasca.Stats{}).spool(), api.LevelOK)
}
