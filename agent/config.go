package agent

import "time"

// Config is the agent's whole configuration. docs/qosctl.yaml lists every key with its default and meaning.
type Config struct {
	Node       string                     `mapstructure:"node"`     // name among its peers; "": the host name
	DataDir    string                     `mapstructure:"data_dir"` // store, containers
	RunDir     string                     `mapstructure:"run_dir"`  // sockets: qosctl.sock (admin), standin.sock
	Listen     string                     `mapstructure:"listen"`   // HTTP API, /metrics; "": none
	TokenFile  string                     `mapstructure:"token_file"`
	Log        LogConfig                  `mapstructure:"log"`
	Cgroup     CgroupConfig               `mapstructure:"cgroup"`
	Engine     EngineConfig               `mapstructure:"engine"`
	Checkpoint CheckpointConfig           `mapstructure:"checkpoint"`
	Control    ControlConfig              `mapstructure:"control"`
	Run        RunConfig                  `mapstructure:"run"`
	Frameworks map[string]FrameworkConfig `mapstructure:"frameworks"` // by name; a job goes to the first of its type in order of names
	Mesos      MesosConfig                `mapstructure:"mesos"`
	Cluster    ClusterConfig              `mapstructure:"cluster"`
	Monasca    MonascaConfig              `mapstructure:"monasca"`
	TLS        TLSConfig                  `mapstructure:"tls"`
	Access     AccessConfig               `mapstructure:"access"`
	Thesis     ThesisConfig               `mapstructure:"thesis"`
}

// ThesisConfig opens the protocol of the thesis' supervisor at `listen`. Those who speak it have nothing to prove themselves with.
type ThesisConfig struct {
	Enabled bool     `mapstructure:"enabled"`
	From    []string `mapstructure:"from"` // networks and addresses that may speak it, as 10.0.0.0/8
}

// TLSConfig is about the network address (listen). Its files are read again when they change.
type TLSConfig struct {
	CertFile     string   `mapstructure:"cert_file"` // the agent's certificate, and those between it and its authority; "": HTTP without TLS
	KeyFile      string   `mapstructure:"key_file"`
	ClientCAFile string   `mapstructure:"client_ca_file"` // authorities of clients' certificates; "": nobody is known by one
	Revoked      []string `mapstructure:"revoked"`        // serial numbers of clients' certificates that open nothing any more
}

// ClusterConfig makes this agent one of several. Without a key it is alone.
type ClusterConfig struct {
	KeyFile       string        `mapstructure:"key_file"`       // the secret that all agents share: gossip's key and the peers' identity; "": alone
	Label         string        `mapstructure:"label"`          // keeps clusters apart
	Bind          string        `mapstructure:"bind"`           // gossip, UDP and TCP
	Advertise     string        `mapstructure:"advertise"`      // address of gossip that peers reach; "": found
	Peer          string        `mapstructure:"peer"`           // peer API, mutual TLS
	PeerAdvertise string        `mapstructure:"peer_advertise"` // address of it that peers reach; "": advertise's host and peer's port
	Join          []string      `mapstructure:"join"`           // gossip addresses of some peers
	Profile       string        `mapstructure:"profile"`        // fast, lan
	Hostname      string        `mapstructure:"hostname"`       // of this node in Mesos; "": what the Mesos agent says
	Grace         time.Duration `mapstructure:"grace"`          // a node that is dead so long is gone: its jobs are taken over
	Fence         string        `mapstructure:"fence"`          // none, zookeeper
	ZooKeeper     []string      `mapstructure:"zookeeper"`      // host:port, for fence zookeeper
	ZooKeeperPath string        `mapstructure:"zookeeper_path"` // znode below which claims are written
	CAFile        string        `mapstructure:"ca_file"`        // of an authority of the site's own for the peer API, with cert_file and cert_key_file
	CertFile      string        `mapstructure:"cert_file"`
	CertKeyFile   string        `mapstructure:"cert_key_file"`
}

// AccessConfig says who may do what over the network (listen).
type AccessConfig struct {
	Reads  string                 `mapstructure:"reads"`  // open: everybody may read; token: whoever has a token
	Hosts  []string               `mapstructure:"hosts"`  // names by which this agent is asked, beside its addresses and its own
	Tokens map[string]TokenConfig `mapstructure:"tokens"` // by a name of one's own
}

// TokenConfig is a bearer token: an operator's, or a tenant's.
type TokenConfig struct {
	Hash     string `mapstructure:"hash"`     // "sha256:" and 64 hexadecimal digits
	Operator bool   `mapstructure:"operator"` // it may do everything
	Tenant   string `mapstructure:"tenant"`   // Marathon group or Chronos owner, whose jobs alone it sees and changes
}

// LogConfig says what is logged, and how.
type LogConfig struct {
	Level  string `mapstructure:"level"`  // debug, info, warn, error
	Format string `mapstructure:"format"` // text, json
}

// CgroupConfig says where cgroups are.
type CgroupConfig struct {
	Root   string `mapstructure:"root"`   // /sys/fs/cgroup
	Proc   string `mapstructure:"proc"`   // /proc
	Parent string `mapstructure:"parent"` // our containers' cgroups stand below it: /qosctl
}

// EngineConfig sets the engines up.
type EngineConfig struct {
	Docker       string            `mapstructure:"docker"`        // Docker's address; "": no Docker
	DockerConfig string            `mapstructure:"docker_config"` // Docker's config.json with credentials for registries; "": none
	Images       map[string]string `mapstructure:"images"`        // of the process engine: image → directory whose entries are laid over the host's root
	Helper       string            `mapstructure:"helper"`        // socket of who starts plain processes for a confined agent; "": the agent does
	MaxLogMB     int               `mapstructure:"max_log_mb"`    // of each output of a plain process that is kept, the newest
}

// CheckpointConfig is about the process state of Docker containers.
type CheckpointConfig struct {
	Driver      string        `mapstructure:"driver"`       // auto, runtime, docker, none
	Dir         string        `mapstructure:"dir"`          // "": data_dir/checkpoints
	Helper      string        `mapstructure:"helper"`       // socket of who has runc take dumps for a confined agent; "": the agent has
	Keep        int           `mapstructure:"keep"`         // of a job, the newest
	MaxMB       int           `mapstructure:"max_mb"`       // of all together; 0: what the disk has
	Interval    time.Duration `mapstructure:"interval"`     // between checkpoints of a job that goes on; 0: none
	DumpTime    time.Duration `mapstructure:"dump_time"`    // plus a second for each 64 MiB
	RestoreTime time.Duration `mapstructure:"restore_time"` // likewise
	FileLocks   bool          `mapstructure:"file_locks"`   // jobs that hold file locks are checkpointed too
	TCP         string        `mapstructure:"tcp"`          // established connections: refuse, keep, close
	Replicas    int           `mapstructure:"replicas"`     // other nodes that get a copy of each periodic checkpoint
	Shared      bool          `mapstructure:"shared"`       // all nodes see the same dir
	RateMB      int           `mapstructure:"rate_mb"`      // MB/s that checkpoints are sent and fetched with; 0: no limit
	Volumes     string        `mapstructure:"volumes"`      // files open for writing on binds and volumes, of a job that goes on: refuse, shared
}

// ControlConfig sets the controller up.
type ControlConfig struct {
	Mode         string        `mapstructure:"mode"`    // act, advise, observe
	DryRun       bool          `mapstructure:"dry_run"` // Mode advise, by another name
	Policy       string        `mapstructure:"policy"`  // one of qos.PolicyNames
	Period       time.Duration `mapstructure:"period"`  // between decisions
	Sample       time.Duration `mapstructure:"sample"`  // between readings
	Dwell        time.Duration `mapstructure:"dwell"`   // least time between two changes of one job, but for emergencies
	CPUs         float64       `mapstructure:"cpus"`    // of the node; 0: what it has
	Reserve      float64       `mapstructure:"reserve_cpus"`
	MinCPUs      float64       `mapstructure:"min_cpus"`
	MaxCPUs      float64       `mapstructure:"max_cpus"`  // 0: the node's
	Increment    float64       `mapstructure:"increment"` // policy step
	Decrement    float64       `mapstructure:"decrement"`
	StepPeriod   time.Duration `mapstructure:"step_period"`     // policy step: least time between two steps of a Marathon job
	Borrow       string        `mapstructure:"borrow"`          // idle, none
	Resize       string        `mapstructure:"resize"`          // auto, inplace, reschedule
	Placement    string        `mapstructure:"placement"`       // hints, any
	MoveTimeout  time.Duration `mapstructure:"move_timeout"`    // a reschedule that brought no task by then is undone
	DeployTime   time.Duration `mapstructure:"deployment_time"` // equation 1, iterations by chronos
	SleepingTime time.Duration `mapstructure:"sleeping_time"`   // equation 1
}

// RunConfig is about stand-ins.
type RunConfig struct {
	Command     string        `mapstructure:"command"`      // what frameworks run: /usr/bin/qosctl
	DetachGrace time.Duration `mapstructure:"detach_grace"` // a container without its stand-in is stopped after it
	KillGrace   time.Duration `mapstructure:"kill_grace"`   // between SIGTERM and SIGKILL of a job's processes
	Constraint  string        `mapstructure:"constraint"`   // agent attribute that every job is constrained to; "": none
}

// FrameworkConfig is one endpoint of a framework.
type FrameworkConfig struct {
	Type            string        `mapstructure:"type"` // marathon, chronos
	URLs            []string      `mapstructure:"urls"`
	CAFile          string        `mapstructure:"ca_file"`
	Username        string        `mapstructure:"username"`
	PasswordFile    string        `mapstructure:"password_file"`
	TokenFile       string        `mapstructure:"token_file"`
	CredentialsFile string        `mapstructure:"credentials_file"` // the thesis' form: {"url","user","password"}
	Timeout         time.Duration `mapstructure:"timeout"`
	Poll            time.Duration `mapstructure:"poll"` // reconciliation
}

// MesosConfig says where this node's Mesos agent is.
type MesosConfig struct {
	URL  string        `mapstructure:"url"` // http://127.0.0.1:5051; "": none
	Poll time.Duration `mapstructure:"poll"`

	Master             []string `mapstructure:"master"` // URLs of the masters, for drains; none: drains are by constraints alone
	MasterCAFile       string   `mapstructure:"master_ca_file"`
	MasterUsername     string   `mapstructure:"master_username"`
	MasterPasswordFile string   `mapstructure:"master_password_file"`
}

// MonascaConfig says where figures of jobs are sent.
type MonascaConfig struct {
	CredentialsFile string        `mapstructure:"credentials_file"` // the thesis' form; "": nothing is sent
	URL             string        `mapstructure:"url"`              // "": the credentials file's, else the catalogue's
	Region          string        `mapstructure:"region"`           // of the catalogue; "": any
	CAFile          string        `mapstructure:"ca_file"`
	Interval        time.Duration `mapstructure:"interval"`  // between two measurements of a job
	Timeout         time.Duration `mapstructure:"timeout"`   // of one request
	SpoolDir        string        `mapstructure:"spool_dir"` // "": data_dir/monasca
	SpoolMaxMB      int           `mapstructure:"spool_max_mb"`
	SpoolMaxAge     time.Duration `mapstructure:"spool_max_age"`
}
