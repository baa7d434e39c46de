package agent

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"path/filepath"
	"slices"

	"qosctl/agent/api"
	"qosctl/agent/doctor"
	"qosctl/cgroup"
	"qosctl/framework"
	"qosctl/monasca"
)

// Outside is an examination of a node on which no agent answers.
type Outside struct {
	Config Config
	File   string // it was read from; "": the defaults hold
	Err    error  // why it can't be used: the defaults are looked at
	Why    error  // no agent answers
}

// Examine looks from outside.
func (o Outside) Examine(ctx context.Context) api.Doctor {
	cfg := o.Config
	if o.Err != nil {
		cfg = Default()
	}
	e := examination{cfg: cfg, file: o.File}
	x := doctor.Examiner{}
	first := []doctor.Probe{doctor.Silent(o.Why), doctor.Config(o.File, o.Err)}
	return api.Doctor{Checks: x.Run(ctx, append(first, e.probes()...))}
}

func (a *Agent) getDoctor(w http.ResponseWriter, r *http.Request) { a.answerDoctor(w, r) }

func (a *Agent) postDoctor(w http.ResponseWriter, r *http.Request) {
	if k := a.engines.keeper; k != nil {
		if !a.untilTested(r.Context()) {
			answerError(w, r.Context().Err())
			return
		}
		k.Test(r.Context())
	}
	a.answerDoctor(w, r)
}

// answerDoctor examines the node, for one caller after the other.
func (a *Agent) answerDoctor(w http.ResponseWriter, r *http.Request) {
	select {
	case a.examining <- struct{}{}:
		defer func() { <-a.examining }()
	case <-r.Context().Done():
		answerError(w, r.Context().Err())
		return
	}
	d := a.examine(r.Context())
	if r.Context().Err() != nil {
		answerError(w, r.Context().Err())
		return
	}
	answer(w, http.StatusOK, d)
}

// examine looks at this node with what the agent knows of it.
func (a *Agent) examine(ctx context.Context) api.Doctor {
	d := api.Doctor{}
	if a.checkpoints() && isClosed(a.tested) {
		d.Driver = a.engines.keeper.Report().Driver
	}
	held := a.heldHere()
	first := []doctor.Probe{doctor.Running(doctor.Agent{
		Version: a.version, Mode: a.cfg.Control.Mode, Held: held, Settled: a.settled.Load(), StoreFails: a.full.Load(), StoreBytes: a.store.size(),
	})}
	e := examination{cfg: a.cfg, file: a.file, agent: a}
	d.Checks = a.examiner.Run(ctx, append(first, e.probes()...))
	return d
}

// examination is a node's configuration, and the agent that looks.
type examination struct {
	cfg   Config
	file  string // "": not known
	agent *Agent // nil: it is looked from outside
}

// probes are in the order of doctor.Checks.
func (e examination) probes() []doctor.Probe {
	c := e.cfg
	list := doctor.Kernel(c.Cgroup.Proc)
	list = append(list, doctor.Cgroups{Root: c.Cgroup.Root, Proc: c.Cgroup.Proc, Parent: c.Cgroup.Parent, Observe: c.Control.Mode == modeObserve}.Probe())
	list = append(list, e.docker())
	list = append(list, e.criu().Probes()...)
	list = append(list, e.mesos().Probes()...)
	list = append(list, e.frameworks()...)
	list = append(list, e.monasca().Probes()...)
	list = append(list, e.cluster()...)
	list = append(list, doctor.Clock())
	list = append(list, e.disks()...)
	list = append(list, e.certificates()...)
	return append(list, e.rights()...)
}

func (e examination) docker() doctor.Probe {
	d := doctor.Docker{Address: e.cfg.Engine.Docker, Runtime: runtimeName, Program: "/proc/self/exe", Wanted: e.cfg.Checkpoint.Driver == "auto" || e.cfg.Checkpoint.Driver == "runtime"}
	if groups, err := cgroup.New(cgroup.Options{Root: e.cfg.Cgroup.Root, Proc: e.cfg.Cgroup.Proc}); err == nil {
		d.Cgroups = groups.Mode()
	}
	if e.cfg.Checkpoint.Driver != "none" {
		d.Store = e.cfg.checkpoints()
	}
	return d.Probe()
}

func (e examination) criu() (c doctor.CRIU) {
	switch {
	case e.cfg.Engine.Docker == "":
		c.Off = "without Docker there are no checkpoints"
	case e.cfg.Checkpoint.Driver == "none":
		c.Off = "switched off (checkpoint.driver: none)"
	case e.agent != nil && e.agent.engines.keeper != nil:
		report := e.agent.engines.keeper.Report()
		c.Report, c.Tested = &report, isClosed(e.agent.tested)
	}
	return c
}

func (e examination) mesos() doctor.Mesos {
	c := e.cfg.Mesos
	m := doctor.Mesos{URL: c.URL, Constraint: e.cfg.Run.Constraint, Timeout: askTime, Host: cmp.Or(e.cfg.Cluster.Hostname, e.cfg.Node)}
	m.Masters = framework.Endpoint{
		Name: "mesos master", URLs: c.Master, CAFile: c.MasterCAFile, Username: c.MasterUsername, PasswordFile: c.MasterPasswordFile, Timeout: askTime,
	}
	return m
}

func (e examination) frameworks() (list []doctor.Probe) {
	for _, name := range slices.Sorted(maps.Keys(e.cfg.Frameworks)) {
		f := e.cfg.Frameworks[name]
		end, err := endpoint(name, f)
		end.Timeout = min(end.Timeout, askTime)
		list = append(list, doctor.Framework{Name: name, Type: f.Type, Endpoint: end, Err: err}.Probe())
	}
	if len(list) == 0 {
		list = append(list, doctor.Skip(doctor.FrameworkAnswers, "no framework is configured: no job can be submitted here"))
	}
	return list
}

func (e examination) monasca() doctor.Monasca {
	c := e.cfg.Monasca
	m := doctor.Monasca{Options: monasca.Options{Credentials: c.CredentialsFile, URL: c.URL, Region: c.Region, CAFile: c.CAFile, Timeout: min(c.Timeout, askTime)}}
	if e.agent != nil && e.agent.monasca != nil {
		stats := e.agent.monasca.sender.Stats()
		m.Stats = &stats
	}
	return m
}

func (e examination) cluster() []doctor.Probe {
	c := e.cfg.Cluster
	var addresses []doctor.Address
	if c.KeyFile != "" {
		addresses = append(addresses, doctor.Address{Key: "cluster.bind", Value: c.Bind, UDP: true}, doctor.Address{Key: "cluster.peer", Value: c.Peer})
	}
	if e.cfg.Listen != "" {
		addresses = append(addresses, doctor.Address{Key: "listen", Value: e.cfg.Listen})
	}
	bind := doctor.Bind
	if e.agent != nil {
		bind = doctor.Bound
	}
	var list []doctor.Probe
	for _, a := range addresses {
		list = append(list, bind(a))
	}
	if c.KeyFile == "" {
		return append(list, doctor.Skip(doctor.ClusterPeers, "this agent is alone (cluster.key_file)"))
	}
	list = append(list, doctor.Key(c.KeyFile))
	if e.agent == nil {
		return append(list, doctor.Join(c.Join, c.Label))
	}
	a := e.agent
	peers := doctor.Cluster{
		Members: a.cluster.mesh.Members(), Self: a.node, Join: c.Join, Settled: a.cluster.mesh.Settled(), Quorate: a.cluster.mesh.Quorate(),
		Reach: a.askReach, Distance: a.distance, Old: tooOld,
	}
	for _, m := range a.alive() {
		if len(peers.Peers) < doctor.MostPeers {
			peers.Peers = append(peers.Peers, doctor.Peer{Name: m.Name, Member: m})
		}
	}
	return append(list, peers.Probes()...)
}

// Room that a disk should have.
const (
	wantBytes = 1 << 30
	wantShare = 0.05
)

func (e examination) disks() []doctor.Probe {
	list := []doctor.Probe{doctor.Disk{Entry: doctor.DiskData, Dir: e.cfg.DataDir, Want: wantBytes, Share: wantShare}.Probe()}
	if e.cfg.Engine.Docker == "" || e.cfg.Checkpoint.Driver == "none" {
		return append(list, doctor.Skip(doctor.DiskCheckpoints, "there are no checkpoints on this node"))
	}
	want := uint64(wantBytes)
	if e.agent != nil {
		for _, j := range e.agent.jobs.all() {
			want = max(want, 2*uint64(max(j.spec().MemoryMiB, 0)*(1<<20)))
		}
	}
	return append(list, doctor.Disk{Entry: doctor.DiskCheckpoints, Dir: e.cfg.checkpoints(), Want: want}.Probe())
}

func (e examination) certificates() (list []doctor.Probe) {
	t, c := e.cfg.TLS, e.cfg.Cluster
	if t.CertFile != "" {
		list = append(list, doctor.Certificate{Key: "tls.cert_file", Cert: t.CertFile, Priv: t.KeyFile}.Probe())
	}
	if c.KeyFile != "" && c.CertFile != "" {
		list = append(list, doctor.Certificate{Key: "cluster.cert_file", Cert: c.CertFile, Priv: c.CertKeyFile, CA: c.CAFile}.Probe())
	}
	if len(list) == 0 {
		list = append(list, doctor.Skip(doctor.Certificates, "the network address speaks no TLS, and peers are known by the cluster's key, if there are any"))
	}
	return list
}

func (e examination) rights() (list []doctor.Probe) {
	c := e.cfg
	if e.file != "" {
		list = append(list, doctor.ConfigFile(e.file))
	}
	for _, f := range c.SecretFiles() {
		list = append(list, doctor.Secret(f))
	}
	list = append(list, doctor.Directory(doctor.File{Key: "data_dir", Path: c.DataDir}, false), doctor.Directory(doctor.File{Key: "run_dir", Path: c.RunDir}, false))
	if c.Engine.Docker != "" {
		list = append(list, doctor.Directory(doctor.File{Key: "checkpoint.dir", Path: c.checkpoints()}, true))
	}
	if e.agent != nil {
		list = append(list, doctor.Sockets(filepath.Join(c.RunDir, adminSocket), filepath.Join(c.RunDir, standinSocket)))
	}
	return append(list, doctor.Helpers(c.Checkpoint.Helper, c.Engine.Helper), doctor.Command(c.Run.Command))
}

// SameVersion compares the agent's version with that of a program that asks it.
func SameVersion(agent, program string) api.Check { return doctor.SameVersion(agent, program) }
