package chronos

// Job is a job as Chronos shows it (JobSerializer): numbers are numbers, whatever they came as.
type Job struct {
	Name                   string      `json:"name"`
	Command                string      `json:"command"`
	Shell                  bool        `json:"shell"`
	Executor               string      `json:"executor"`
	ExecutorFlags          string      `json:"executorFlags"`
	TaskInfoData           string      `json:"taskInfoData"`
	Retries                int         `json:"retries"`
	Owner                  string      `json:"owner"`
	OwnerName              string      `json:"ownerName"`
	Description            string      `json:"description"`
	CPUs                   float64     `json:"cpus"`
	Disk                   float64     `json:"disk"`
	Mem                    float64     `json:"mem"` // MiB
	Disabled               bool        `json:"disabled"`
	SoftError              bool        `json:"softError"`
	DataProcessingJobType  bool        `json:"dataProcessingJobType"`
	ErrorsSinceLastSuccess int64       `json:"errorsSinceLastSuccess"`
	Fetch                  []Fetch     `json:"fetch"`
	URIs                   []string    `json:"uris"`
	EnvironmentVariables   []Variable  `json:"environmentVariables"`
	Arguments              []string    `json:"arguments"`
	HighPriority           bool        `json:"highPriority"`
	RunAsUser              string      `json:"runAsUser"`
	Concurrent             bool        `json:"concurrent"`
	SuccessCount           int64       `json:"successCount"`
	ErrorCount             int64       `json:"errorCount"`
	LastSuccess            string      `json:"lastSuccess"`
	LastError              string      `json:"lastError"`
	Container              *Container  `json:"container,omitempty"`
	Constraints            [][]string  `json:"constraints"`
	MaxCompletionTime      int64       `json:"maxCompletionTime"` // s; 0: none
	Parents                []string    `json:"parents,omitempty"`
	Schedule               string      `json:"schedule,omitempty"`
	ScheduleTimeZone       *string     `json:"scheduleTimeZone,omitempty"`
	Old                    *OldMembers `json:"-"`
}

// OldMembers are those that 2.x has beside the others.
type OldMembers struct {
	Async   bool   `json:"async"`
	Epsilon string `json:"epsilon"`
}

// Variable is an environment variable.
type Variable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Fetch is a file that Mesos' fetcher would bring; the development scheduler fetches what is on this machine.
type Fetch struct {
	URI        string `json:"uri"`
	Executable bool   `json:"executable"`
	Cache      bool   `json:"cache"`
	Extract    bool   `json:"extract"`
	OutputFile string `json:"output_file"`
}

// Container is a job's container.
type Container struct {
	Type           string      `json:"type"`
	Image          string      `json:"image"`
	Network        string      `json:"network"`
	NetworkName    string      `json:"networkName,omitempty"`
	NetworkInfos   []any       `json:"networkInfos"`
	Volumes        []Volume    `json:"volumes"`
	Parameters     []Parameter `json:"parameters"`
	ForcePullImage bool        `json:"forcePullImage"`
}

// Volume is a mount of a container.
type Volume struct {
	HostPath      string `json:"hostPath,omitempty"`
	ContainerPath string `json:"containerPath"`
	Mode          string `json:"mode,omitempty"`
}

// Parameter is an option of docker run.
type Parameter struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// scheduled says whether the job has a schedule of its own; else it depends on its parents.
func (j *Job) scheduled() bool { return len(j.Parents) == 0 }

// status is how the job's last run that counts ended. The times are of one format, so they compare as text.
func (j *Job) status() string {
	switch {
	case j.LastSuccess == "" && j.LastError == "":
		return "fresh"
	case j.LastSuccess > j.LastError:
		return "success"
	}
	return "failure"
}
