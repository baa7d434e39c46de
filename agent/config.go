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
	MaxLogMB     int               `mapstructure:"max_log_mb"`    // of each output of a plain process that is kept, the newest
}

// CheckpointConfig is about the process state of Docker containers.
type CheckpointConfig struct {
	Driver      string        `mapstructure:"driver"`       // auto, runtime, docker, none
	Dir         string        `mapstructure:"dir"`          // "": data_dir/checkpoints
	Keep        int           `mapstructure:"keep"`         // of a job, the newest
	MaxMB       int           `mapstructure:"max_mb"`       // of all together; 0: what the disk has
	Interval    time.Duration `mapstructure:"interval"`     // between checkpoints of a job that goes on; 0: none
	DumpTime    time.Duration `mapstructure:"dump_time"`    // plus a second for each 64 MiB
	RestoreTime time.Duration `mapstructure:"restore_time"` // likewise
	FileLocks   bool          `mapstructure:"file_locks"`   // jobs that hold file locks are checkpointed too
	TCP         string        `mapstructure:"tcp"`          // established connections: refuse, keep, close
	Volumes     string        `mapstructure:"volumes"`      // files open for writing on binds and volumes, of a job that goes on: refuse, shared
}

// ControlConfig sets the controller up.
type ControlConfig struct {
	Mode         string        `mapstructure:"mode"`   // act, advise, observe
	Policy       string        `mapstructure:"policy"` // deadline, step, none
	Period       time.Duration `mapstructure:"period"` // between decisions
	Sample       time.Duration `mapstructure:"sample"` // between readings
	Dwell        time.Duration `mapstructure:"dwell"`  // least time between two changes of one job, but for emergencies
	CPUs         float64       `mapstructure:"cpus"`   // of the node; 0: what it has
	Reserve      float64       `mapstructure:"reserve_cpus"`
	MinCPUs      float64       `mapstructure:"min_cpus"`
	MaxCPUs      float64       `mapstructure:"max_cpus"`  // 0: the node's
	Increment    float64       `mapstructure:"increment"` // policy step
	Decrement    float64       `mapstructure:"decrement"`
	StepPeriod   time.Duration `mapstructure:"step_period"`     // policy step: least time between two steps of a Marathon job
	Borrow       string        `mapstructure:"borrow"`          // idle, none
	Resize       string        `mapstructure:"resize"`          // auto, inplace, reschedule
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
}
