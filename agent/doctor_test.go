package agent

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/agent/doctor"
	"qosctl/agent/peer"
	"qosctl/gossip"
)

// finding is what an examination found by a check.
func finding(t *testing.T, d api.Doctor, name string) api.Check {
	t.Helper()
	i := slices.IndexFunc(d.Checks, func(c api.Check) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("nothing was found by %s: %+v", name, d.Checks)
	}
	return d.Checks[i]
}

func TestTheDoctorOfACluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2, nil)
	d, err := c.nodes[0].client().Doctor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"agent.answers", "agent.mode", "agent.store", "kernel.version", "cgroup.cpu", "cgroup.write", "cluster.peers", "cluster.key", "port.bind", "port.reach", "clock.peers", "rights.sockets", "rights.secrets"} {
		if f := finding(t, d, name); f.Level != api.LevelOK {
			t.Errorf("%+v", f)
		}
	}
	known, last := map[string]int{}, 0
	for i, e := range doctor.Checks() {
		known[e.Name] = i + 1
	}
	for _, f := range d.Checks {
		if at := known[f.Name]; at == 0 || at < last {
			t.Errorf("%s is not listed, or not in order", f.Name)
		} else {
			last = at
		}
	}
	other := c.nodes[1].agent
	r := other.reach(t.Context(), gossip.Member{Name: "n0", Address: freeAddress(t), Meta: gossip.Meta{Peer: freeAddress(t)}})
	if !strings.Contains(r.TCP, "refused") || !strings.Contains(r.Peer, "refused") || r.UDP != "" { // by UDP at the address that the table has
		t.Errorf("%+v", r)
	}
	c.nodes[0].end()
	r = other.reach(t.Context(), gossip.Member{Name: "n0", Address: c.nodes[0].cfg.Cluster.Bind, Meta: gossip.Meta{Peer: c.nodes[0].cfg.Cluster.Peer}})
	if r.TCP == "" || r.Peer == "" || r.UDP == "" {
		t.Errorf("a node that has ended is reached: %+v", r)
	}
	if m, ok := other.cluster.mesh.(*gossip.Mesh); !ok || m.Stats().Strangers != 0 {
		t.Errorf("a doctor's knock is noted as a stranger's: %+v", m.Stats())
	}
}

// A peer whose clock is wrong, over the peers' own TLS.
func TestAWrongClockIsFound(t *testing.T) {
	t.Parallel()
	for shift, level := range map[time.Duration]api.Level{0: api.LevelOK, -3 * time.Second: api.LevelWarning, time.Minute: api.LevelFault} {
		t.Run(shift.String(), func(t *testing.T) {
			t.Parallel()
			a := &Agent{cluster: newCluster(nil, nil)}
			to := servePeers(t, "wrong", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Qosctl-Clock", strconv.FormatInt(time.Now().Add(shift).UnixNano(), 10))
				w.WriteHeader(http.StatusOK)
			}))
			client, err := peer.NewClient(peer.ClientOptions{Identity: peerIdentity(t, "right", 1), Clock: a.cluster.skews.note})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(client.Close)
			a.cluster.peers = client
			m := gossip.Member{Name: "wrong", State: gossip.Alive, Meta: gossip.Meta{Peer: to.Addr}}
			x := doctor.Examiner{}
			d := api.Doctor{Checks: x.Run(t.Context(), doctor.Cluster{Peers: []doctor.Peer{{Name: "wrong", Member: m}}, Reach: a.askReach, Distance: a.distance, Old: tooOld}.Probes())}
			if f := finding(t, d, "clock.peers"); f.Level != level {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestTheInsideIsForTheSocketAlone(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	network := n.agent.guard(n.agent.adminRoutes())
	for _, path := range []string{"/v1/debug/state", "/v1/debug/config", "/v1/debug/pprof/goroutine?debug=1"} {
		if status, e := request(t, network, "GET", path, "", nil); status != http.StatusNotFound {
			t.Errorf("%s over the network: %d %+v", path, status, e)
		}
		if status, e := request(t, n.agent.socketRoutes(), "GET", path, "", nil); status != http.StatusOK {
			t.Errorf("%s on the socket: %d %+v", path, status, e)
		}
	}
	if status, _ := request(t, network, "GET", "/v1/doctor", "", nil); status != http.StatusForbidden {
		t.Errorf("a stranger has the node examined: %d", status)
	}
	for _, path := range []string{"/v1/debug/pprof/profile?debug=1", "/v1/debug/pprof/heap", "/v1/debug/pprof/heap?debug=9"} {
		if status, _ := request(t, n.agent.socketRoutes(), "GET", path, "", nil); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", path, status)
		}
	}
	state, err := n.client().DebugState(t.Context())
	if err != nil || state.Goroutines == 0 || state.Store.Bytes == 0 || state.Store.Rows["jobs"] != 0 {
		t.Errorf("%+v, %v", state, err)
	}
}

func TestFilesWithSecretsAreKnown(t *testing.T) {
	t.Parallel()
	c := Default()
	c.TokenFile, c.Engine.DockerConfig, c.Mesos.MasterPasswordFile = "/1", "/2", "/3"
	c.Cluster.KeyFile, c.Cluster.CertKeyFile, c.Cluster.CertFile, c.Cluster.CAFile = "/4", "/5", "/cert", "/ca"
	c.Monasca.CredentialsFile, c.Monasca.CAFile = "/6", "/ca"
	c.Frameworks = map[string]FrameworkConfig{"b": {PasswordFile: "/7", TokenFile: "/8", CredentialsFile: "/9"}, "a": {TokenFile: "/0", CAFile: "/ca"}}
	got := ""
	for _, f := range c.SecretFiles() {
		got += f.Key + "=" + f.Path + " "
	}
	want := "token_file=/1 engine.docker_config=/2 frameworks.a.token_file=/0 frameworks.b.password_file=/7 frameworks.b.token_file=/8 frameworks.b.credentials_file=/9 " +
		"mesos.master_password_file=/3 cluster.key_file=/4 cluster.cert_key_file=/5 monasca.credentials_file=/6 "
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestTheDoctorFromOutside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := Default()
	cfg.DataDir, cfg.RunDir, cfg.Engine.Docker, cfg.Mesos.URL, cfg.Listen = dir, dir, "", "", ""
	cfg.Cluster.KeyFile = filepath.Join(dir, "cluster.key")
	if err := os.WriteFile(cfg.Cluster.KeyFile, []byte(gossip.NewKey()), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg.Cluster.Bind, cfg.Cluster.Peer, cfg.Cluster.Join = freeAddress(t), freeAddress(t), []string{freeAddress(t)}
	d := Outside{Config: cfg, Why: os.ErrNotExist}.Examine(t.Context())
	for name, level := range map[string]api.Level{
		"agent.answers": api.LevelFault, "agent.config": api.LevelOK, "cluster.key": api.LevelFault, "cluster.peers": api.LevelFault, "rights.secrets": api.LevelFault,
		"docker.answers": api.LevelSkipped, "mesos.agent": api.LevelSkipped, "port.bind": api.LevelOK,
	} {
		if f := finding(t, d, name); f.Level != level {
			t.Errorf("%+v, want %s", f, level)
		}
	}
	if d := (Outside{Err: os.ErrInvalid, Why: os.ErrNotExist}).Examine(t.Context()); finding(t, d, "agent.config").Level != api.LevelFault || d.Worst() != api.LevelFault {
		t.Errorf("%+v", d)
	}
}
