package docker

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/client"
	"github.com/docker/go-connections/nat"
	"github.com/docker/go-units"
	"github.com/google/go-cmp/cmp"

	"qosctl/cgroup"
	"qosctl/container"
)

// speaking is an engine whose client speaks a version of the API, with nobody at the other end.
func speaking(t testing.TB, version string) *Engine {
	t.Helper()
	c, err := client.NewClientWithOpts(client.WithHost("unix:///nowhere.sock"), client.WithVersion(version))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // never connected
	e, err := New(Options{Client: c, Cgroups: &cgroup.FS{}, Parent: "/qosctl"})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestTranslate holds what a job file can ask for against what Docker is asked for, with an engine of today and with the oldest one.
func TestTranslate(t *testing.T) {
	t.Parallel()
	spec := container.Spec{
		ID: "j-1-1", Image: "i:1", Command: "run me", Env: []string{"A=1"}, Dir: "/var/sandbox", Labels: map[string]string{"qosctl.job": "j"},
		Mounts:     []container.Mount{{Source: "/src", Target: "/dst", ReadOnly: true}, {Source: "vol", Target: "/vol"}},
		User:       container.User{UID: 1000, GID: 100, Groups: []int{7}},
		Limits:     container.Limits{CPUs: 1.5, Shares: 0.5, MemBytes: 64 << 20},
		Privileged: true, Network: "bridge", Ports: []container.Port{{Container: 80, Host: 8080, Protocol: "udp,tcp"}},
		Annotations: map[string]string{annotationRestore: "/ck/x.json"}, Runtime: "qosctl",
	}
	no := false
	conf := &dcontainer.Config{
		Image: "i:1", Env: []string{"A=1", "MESOS_SANDBOX=" + sandbox}, Labels: map[string]string{"qosctl.job": "j", labelParent: "/p"}, User: "1000:100",
		Entrypoint: []string{"/bin/sh"}, Cmd: []string{"-c", "run me"}, ExposedPorts: nat.PortSet{"80/udp": {}, "80/tcp": {}},
	}
	host := &dcontainer.HostConfig{
		NetworkMode: "bridge", Privileged: true, Runtime: "qosctl", Init: &no, GroupAdd: []string{"7"},
		RestartPolicy: dcontainer.RestartPolicy{Name: "no"},
		LogConfig:     dcontainer.LogConfig{Type: "local", Config: map[string]string{"max-size": "1000g", "max-file": "1", "compress": "false"}},
		Resources:     dcontainer.Resources{CPUQuota: 150000, CPUShares: 512, Memory: 64 << 20, CgroupParent: "/p"},
		PortBindings:  nat.PortMap{"80/udp": {{HostPort: "8080"}}, "80/tcp": {{HostPort: "8080"}}},
		Annotations:   map[string]string{annotationRestore: "/ck/x.json"},
		Mounts: []mount.Mount{
			{Type: mount.TypeBind, Source: "/var/sandbox", Target: sandbox},
			{Type: mount.TypeBind, Source: "/src", Target: "/dst", ReadOnly: true, BindOptions: &mount.BindOptions{CreateMountpoint: true}},
			{Type: mount.TypeVolume, Source: "vol", Target: "/vol"},
		},
	}
	oldConf, oldHost := *conf, *host
	oldConf.Env = append(slices.Clone(conf.Env), envRestore+"=/ck/x.json") // API 1.41 has no annotations, and makes no mount points
	oldHost.Annotations, oldHost.Binds = nil, []string{"/src:/dst:ro"}
	oldHost.Mounts = []mount.Mount{host.Mounts[0], host.Mounts[2]}
	onV2 := *host
	onV2.CgroupnsMode = dcontainer.CgroupnsModeHost
	for name, c := range map[string]struct {
		version, cgroups string
		conf             *dcontainer.Config
		host             *dcontainer.HostConfig
	}{
		"today": {"1.45", "1", conf, host}, "cgroup v2": {"1.45", "2", conf, &onV2}, "API 1.41": {"1.41", "1", &oldConf, &oldHost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gotConf, gotHost, err := speaking(t, c.version).translate(spec, "/p", c.cgroups)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.conf, gotConf) + cmp.Diff(c.host, gotHost); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestOptions sets each argument of docker run that a job may give.
func TestOptions(t *testing.T) {
	t.Parallel()
	yes, twelve, pids := true, int64(12), int64(99)
	type both struct {
		c dcontainer.Config
		h dcontainer.HostConfig
	}
	cases := map[string]func(*both){ // key=value → what it sets
		"add-host=a:1.2.3.4":             func(b *both) { b.h.ExtraHosts = []string{"a:1.2.3.4"} },
		"blkio-weight=300":               func(b *both) { b.h.BlkioWeight = 300 },
		"cap-add=SYS_PTRACE":             func(b *both) { b.h.CapAdd = []string{"SYS_PTRACE"} },
		"cap-drop=ALL":                   func(b *both) { b.h.CapDrop = []string{"ALL"} },
		"cpuset-cpus=0-1":                func(b *both) { b.h.CpusetCpus = "0-1" },
		"cpuset-mems=0":                  func(b *both) { b.h.CpusetMems = "0" },
		"device-cgroup-rule=c 1:3 r":     func(b *both) { b.h.DeviceCgroupRules = []string{"c 1:3 r"} },
		"dns-opt=rotate":                 func(b *both) { b.h.DNSOptions = []string{"rotate"} },
		"dns-option=rotate":              func(b *both) { b.h.DNSOptions = []string{"rotate"} },
		"dns-search=x.example":           func(b *both) { b.h.DNSSearch = []string{"x.example"} },
		"dns=1.2.3.4":                    func(b *both) { b.h.DNS = []string{"1.2.3.4"} },
		"domainname=d":                   func(b *both) { b.c.Domainname = "d" },
		"entrypoint=/e":                  func(b *both) { b.c.Entrypoint = []string{"/e"} },
		"env=K=V=W":                      func(b *both) { b.c.Env = []string{"K=V=W"} },
		"expose=81/udp":                  func(b *both) { b.c.ExposedPorts = nat.PortSet{"81/udp": {}} },
		"group-add=wheel":                func(b *both) { b.h.GroupAdd = []string{"wheel"} },
		"hostname=h":                     func(b *both) { b.c.Hostname = "h" },
		"init=":                          func(b *both) { b.h.Init = &yes },
		"interactive=1":                  func(b *both) { b.c.OpenStdin = true },
		"ipc=host":                       func(b *both) { b.h.IpcMode = "host" },
		"label=k=v=w":                    func(b *both) { b.c.Labels["k"] = "v=w" },
		"memory-reservation=8m":          func(b *both) { b.h.MemoryReservation = 8 << 20 },
		"memory-swap=-1":                 func(b *both) { b.h.MemorySwap = -1 },
		"memory-swappiness=12":           func(b *both) { b.h.MemorySwappiness = &twelve },
		"net=none":                       func(b *both) { b.h.NetworkMode = "none" },
		"network=n1":                     func(b *both) { b.h.NetworkMode = "n1" },
		"no-healthcheck=true":            func(b *both) { b.c.Healthcheck = &dcontainer.HealthConfig{Test: []string{"NONE"}} },
		"oom-score-adj=-5":               func(b *both) { b.h.OomScoreAdj = -5 },
		"pid=host":                       func(b *both) { b.h.PidMode = "host" },
		"pids-limit=99":                  func(b *both) { b.h.PidsLimit = &pids },
		"privileged=true":                func(b *both) { b.h.Privileged = true },
		"publish-all=true":               func(b *both) { b.h.PublishAllPorts = true },
		"read-only=true":                 func(b *both) { b.h.ReadonlyRootfs = true },
		"security-opt=no-new-privileges": func(b *both) { b.h.SecurityOpt = []string{"no-new-privileges"} },
		"shm-size=1g":                    func(b *both) { b.h.ShmSize = 1 << 30 },
		"stop-signal=INT":                func(b *both) { b.c.StopSignal = "INT" },
		"storage-opt=size=1g":            func(b *both) { b.h.StorageOpt = map[string]string{"size": "1g"} },
		"sysctl=a.b=1":                   func(b *both) { b.h.Sysctls = map[string]string{"a.b": "1"} },
		"tmpfs=/t:size=1m":               func(b *both) { b.h.Tmpfs = map[string]string{"/t": "size=1m"} },
		"tty=true":                       func(b *both) { b.c.Tty = true },
		"ulimit=nofile=10:20":            func(b *both) { b.h.Ulimits = []*units.Ulimit{{Name: "nofile", Soft: 10, Hard: 20}} },
		"user=u":                         func(b *both) { b.c.User = "u" },
		"userns=host":                    func(b *both) { b.h.UsernsMode = "host" },
		"uts=host":                       func(b *both) { b.h.UTSMode = "host" },
		"volume-driver=local":            func(b *both) { b.h.VolumeDriver = "local" },
		"volume=/anonymous":              func(b *both) { b.c.Volumes = map[string]struct{}{"/anonymous": {}} },
		"volume=vv:/at:ro":               func(b *both) { b.h.Binds = []string{"vv:/at:ro"} },
		"volumes-from=other":             func(b *both) { b.h.VolumesFrom = []string{"other"} },
		"workdir=/w":                     func(b *both) { b.c.WorkingDir = "/w" },
		"device=/dev/a:/dev/b:r": func(b *both) {
			b.h.Devices = []dcontainer.DeviceMapping{{PathOnHost: "/dev/a", PathInContainer: "/dev/b", CgroupPermissions: "r"}}
		},
		"gpus=all": func(b *both) {
			b.h.DeviceRequests = []dcontainer.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}}}
		},
		"mount=type=bind,source=/s,target=/t,readonly": func(b *both) {
			b.h.Mounts = []mount.Mount{{Type: mount.TypeBind, Source: "/s", Target: "/t", ReadOnly: true}}
		},
		"publish=127.0.0.1:8080:80/tcp": func(b *both) {
			b.c.ExposedPorts = nat.PortSet{"80/tcp": {}}
			b.h.PortBindings = nat.PortMap{"80/tcp": {{HostIP: "127.0.0.1", HostPort: "8080"}}}
		},
	}
	tested := map[string]bool{}
	for text, set := range cases {
		key, value, _ := strings.Cut(text, "=")
		tested[key] = true
		want, got := both{c: dcontainer.Config{Labels: map[string]string{}}}, both{c: dcontainer.Config{Labels: map[string]string{}}}
		set(&want)
		if err := apply(container.Option{Key: key, Value: value}, &got.c, &got.h); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if d := cmp.Diff(want.c, got.c) + cmp.Diff(want.h, got.h); d != "" {
			t.Errorf("%s: %s", text, d)
		}
	}
	for key := range options() {
		if !tested[key] {
			t.Errorf("option %s is not tested", key)
		}
	}
}

// TestPortsOfSeveralOptions: a port that is exposed by one option and published by the next.
func TestPortsOfSeveralOptions(t *testing.T) {
	t.Parallel()
	s := container.Spec{ID: "j-1-1", Image: "i", Options: []container.Option{{Key: "expose", Value: "80"}, {Key: "publish", Value: "8080:80"}}}
	conf, host, err := speaking(t, "1.45").translate(s, "/p", "1")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(nat.PortMap{"80/tcp": {{HostPort: "8080"}}}, host.PortBindings) + cmp.Diff(nat.PortSet{"80/tcp": {}}, conf.ExposedPorts); d != "" {
		t.Error(d)
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	t.Parallel()
	for key, why := range refused() {
		err := apply(container.Option{Key: key, Value: "secret"}, &dcontainer.Config{}, &dcontainer.HostConfig{})
		if !errors.Is(err, container.ErrNotSupported) || !strings.Contains(err.Error(), "--"+key) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", key, err)
		}
	}
	for _, bad := range []string{
		"nobody-knows=1", "blkio-weight=x", "pids-limit=-2", "shm-size=much", "init=perhaps", "sysctl=a", "env=A", "label=qosctl.job=x", "expose=none", "publish=a:b:c:d",
		"tmpfs=t", "ulimit=x", "device=a", "gpus=0", "volume=a", "volume=/a:/", "volume=a/b:/c", "mount=x", "mount=type=npipe,target=/a", "mount=target=/",
		"mount=type=bind,source=a,target=/b", "mount=type=tmpfs,source=a,target=/b", "mount=target=/a,ro=perhaps", "mount=\"",
	} {
		key, value, _ := strings.Cut(bad, "=")
		c, h := &dcontainer.Config{Labels: map[string]string{}}, &dcontainer.HostConfig{}
		if err := apply(container.Option{Key: key, Value: value}, c, h); err == nil {
			t.Errorf("%s is taken: %+v %+v", bad, c, h)
		}
	}
}

// FuzzOptions: no value of any option panics, and what is refused names the option.
func FuzzOptions(f *testing.F) {
	keys := slices.Sorted(func(yield func(string) bool) {
		for k := range options() {
			if !yield(k) {
				return
			}
		}
	})
	for i, v := range []string{"", "a=b", "/a:/b:ro", "type=bind,source=/a,target=/b,ro", "1-5:80/udp", "nofile=1:2", "64m", "-1", "[::1]:80:80", "\x00"} {
		f.Add(uint16(i), v, v)
	}
	f.Fuzz(func(t *testing.T, n uint16, one, two string) {
		c, h := &dcontainer.Config{Labels: map[string]string{}}, &dcontainer.HostConfig{}
		for i, v := range []string{one, two} {
			key := keys[(int(n)+i)%len(keys)]
			if err := apply(container.Option{Key: key, Value: v}, c, h); err != nil && !strings.Contains(err.Error(), "option --"+key) {
				t.Errorf("%s: %v", key, err)
			}
		}
	})
}

func FuzzAuths(f *testing.F) {
	for _, s := range []string{
		`{"auths":{"r.example":{"auth":"dTpw"}}}`, `{"r.example":{"auth":"dTpw"}}`, `{"credsStore":"x"}`, `{"auths":{"r":{"auth":"!"}}}`, `[]`, `{"auths":null}`, ``,
	} {
		f.Add([]byte(s), "r.example")
	}
	f.Fuzz(func(t *testing.T, text []byte, host string) {
		auths, err := parseAuths(text)
		if err != nil {
			return
		}
		if key, found := pick(auths, host); found && key != host && registryHost(key) != host && host != hubHost {
			t.Errorf("for %q those of %q are taken", host, key)
		}
	})
}

func TestAuths(t *testing.T) {
	t.Parallel()
	const file = `{"auths": {"https://index.docker.io/v1/": {"auth": "aHViOnA="}, "r.example:5000": {"auth": "dTpwOnE="}, "http://r.example:5000/v2/": {"auth": "eDp5"}}}`
	auths, err := parseAuths([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{"r.example:5000": "u p:q", "docker.io": "hub p", "other.example": ""} {
		got := ""
		if key, ok := pick(auths, host); ok {
			got = fmt.Sprint(auths[key].Username, " ", auths[key].Password)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
	for _, bad := range []string{`x`, `{"credsStore": "pass"}`, `{"auths": {"r": {"auth": "c2VjcmV0"}}}`, `{"auths": {"r": {"auth": "?"}}}`} {
		if _, err := parseAuths([]byte(bad)); err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// FuzzPull reads the progress of a pull: it ends, and the daemon's error is an error.
func FuzzPull(f *testing.F) {
	f.Add([]byte(`{"status":"x"}{"error":"denied"}`))
	f.Add([]byte(`{"status":`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := drainPull(strings.NewReader(string(text))); errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("ended early: %v", err)
		}
	})
}
