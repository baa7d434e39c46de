package doctor

// The checks.
var (
	AgentAnswers = Entry{
		"agent.answers", "whether an agent answers on its socket", "", "nobody answers: what follows was looked at from outside, with the configuration file",
		"systemctl status qosctl-agent; journalctl -u qosctl-agent",
	}
	AgentVersion = Entry{"agent.version", "the agent's version and that of the command", "they differ: the agent was not restarted after an upgrade", "", "systemctl restart qosctl-agent: jobs run on"}
	AgentMode    = Entry{"agent.mode", "`control.mode`, holds, and whether what ran before was taken up", "the agent is still taking up what ran before", "", "ask again"}
	AgentConfig  = Entry{"agent.config", "the configuration file, where no agent answers", "", "it can't be read, or is invalid", "qosctl config check FILE; docs/qosctl.yaml has every key"}
	AgentStore   = Entry{"agent.store", "the agent's store", "", "it can't be written: jobs run on, and nothing new is remembered", "make room on the disk of data_dir, or mend it; it is tried again by itself"}

	KernelVersion = Entry{"kernel.version", "the kernel's release", "older than 4.9, which is the oldest that this was tested on", "older than 3.10", "a newer kernel"}
	KernelRestore = Entry{"kernel.restore", "CONFIG_CHECKPOINT_RESTORE, by `/proc/sys/kernel/ns_last_pid`", "it is missing: CRIU can't restore processes", "", "a kernel of the distribution's: all of them have it"}

	CgroupHierarchy = Entry{"cgroup.hierarchy", "which cgroup hierarchies are mounted: v1, v2 or hybrid", "", "neither is usable", "mount them (systemd does at boot); cgroup.root in the configuration says where they are"}
	CgroupCPU       = Entry{"cgroup.cpu", "the cpu controller with CFS quotas, where containers are", "", "it is not there: jobs can't be resized", "v2: enable cpu in cgroup.subtree_control from the root down (systemd: CPUAccounting=yes); v1: a kernel with CONFIG_CFS_BANDWIDTH, without cgroup_disable=cpu"}
	CgroupWrite     = Entry{"cgroup.write", "whether cgroups can be made below `cgroup.parent`", "they can't, and `control.mode` is observe", "they can't", "run the agent as root, or in a delegated subtree (Delegate=yes) named by cgroup.parent"}

	DockerAnswers = Entry{"docker.answers", "`engine.docker`: whether Docker answers there", "its API is older than 1.41 (Docker 20.10)", "it does not answer, or not to us", "systemctl status docker; engine.docker in the configuration says where it is; \"\" is none"}
	DockerLive    = Entry{"docker.live_restore", "Docker's live-restore", "it is off: a restart of Docker ends all containers", "", `"live-restore": true in /etc/docker/daemon.json, and systemctl reload docker`}
	DockerRuntime = Entry{
		"docker.runtime", "our OCI runtime: registered with Docker, in its place, of this version", "it is not registered, or of another version",
		"it is registered and not there: its containers can't be started or ended", "qosctl oci-runtime install",
	}
	DockerCgroups = Entry{"docker.cgroups", "Docker's cgroup version and driver", "Docker says another version than was found", "", "restart Docker; cgroup.root in the configuration must be what Docker uses"}

	DockerStore = Entry{
		"docker.store", "whether the checkpoints have a file system of their own", "they are on the one that Docker's containers are on: the kernel writes a job's images to the disk while the job is to go on", "",
		"mount a file system of its own, or a tmpfs, at checkpoint.dir (empty: data_dir/checkpoints): docs/checkpoints.md, Where they are kept",
	}

	CRIUVersion = Entry{"criu.version", "CRIU and its version", "it is missing, or older than 3.11: jobs are resized in place only", "", "install criu (Debian: apt-get install criu), 4.2 or newer where jobs have IP sockets"}
	CRIUCheck   = Entry{"criu.check", "`criu check`, where no agent answers and the caller is root", "the kernel lacks what CRIU needs", "", "the text names it; a kernel of the distribution's has it"}
	SelfTest    = Entry{"checkpoint.selftest", "each step of the agent's last self-test: a tiny container is started, checkpointed and restored", "a step failed", "", "qosctl doctor --again runs it anew"}
	Driver      = Entry{"checkpoint.driver", "by which driver jobs can be checkpointed", "by none, though Docker and a driver are configured", "", "the findings before say what is missing; checkpoint.driver: none if it is to be so"}

	MesosAgent  = Entry{"mesos.agent", "`mesos.url`: this node's Mesos agent", "", "it does not answer: loans are not given back when Mesos sells the CPUs, adopted jobs are not found", "systemctl status mesos-slave; mesos.url in the configuration; \"\" is none"}
	MesosAttr   = Entry{"mesos.attribute", "the Mesos agent's attribute `run.constraint`", "it has none: frameworks send no job here", "", "--attributes=qosctl:true for the Mesos agent, or run.constraint: \"\" where every node has an agent of ours"}
	MesosMaster = Entry{"mesos.master", "`mesos.master`: whether a master answers, lets us in and knows this node", "this host is not among its agents, or we may not ask", "none answers, or the credentials are refused", "mesos.master and master_username in the configuration"}

	FrameworkAnswers = Entry{"framework.answers", "each URL of each framework", "one of several URLs does not answer", "none answers, or something else does", "check that it runs, and frameworks.NAME.urls"}
	FrameworkLogin   = Entry{"framework.login", "whether it takes our credentials", "", "it refuses them, or they can't be read", "frameworks.NAME.username, password_file, token_file or credentials_file"}
	FrameworkVersion = Entry{"framework.version", "its version", "Marathon before 1.4", "", "a newer one: events and unreachableStrategy are missing in this one"}

	KeystoneLogin  = Entry{"keystone.login", "a token of Keystone's with `monasca.credentials_file`", "", "Keystone does not answer, or refuses the credentials", "the cause names what to mend in the credentials file"}
	MonascaAnswers = Entry{"monasca.answers", "an empty batch, sent to Monasca with that token: nothing is kept of it", "", "it does not answer, or the token's role may not send", "give the user the role monasca-agent; monasca.url"}
	MonascaSpool   = Entry{"monasca.spool", "the agent's sender: what it waits for, whether its spool can be written", "something is wrong with what was sent last", "the spool can't be written", "the cause names it; what could not be sent yet is kept and sent later"}

	PortBind  = Entry{"port.bind", "`cluster.bind` (UDP and TCP), `cluster.peer` and `listen`", "", "another program has the address, or it is none of this host's", "ss -lntup says who has it; the key in the configuration"}
	PortReach = Entry{
		"port.reach", "asks peers (at most 8) to reach this node's gossip by UDP and by TCP, and its peer API", "some peers can't, or by UDP alone not", "no peer can",
		"open cluster.bind (UDP and TCP) and cluster.peer (TCP) between the nodes; cluster.advertise must be an address that they reach",
	}
	ClusterKey   = Entry{"cluster.key", "`cluster.key_file`", "", "it can't be read, or others may read it", "chmod 0600 it; the same file is on every node (qosctl keyring generate makes one)"}
	ClusterPeers = Entry{"cluster.peers", "the members that this node sees, or the addresses in `cluster.join`", "members are dead, the peer API of one does not answer, or this node sees less than half of those known", "`cluster.join` names peers and none is there", "qosctl nodes; the same key, label and reachable ports everywhere"}

	ClockPeers = Entry{"clock.peers", "this node's clock against those of its peers (at most 8)", "1 s apart or more", "10 s apart or more: deadlines are wall time, and move with it", "chrony or systemd-timesyncd on every node"}
	ClockSync  = Entry{"clock.sync", "whether the kernel's clock is kept in step (adjtimex)", "nobody keeps it", "", "chrony or systemd-timesyncd"}

	DiskData        = Entry{"disk.data", "room and inodes of `data_dir`", "less than 1 GiB or 5 % is free", "less than 64 MiB, or 1,000 inodes, are free", "remove old checkpoints (qosctl checkpoints) or give it a bigger disk"}
	DiskCheckpoints = Entry{"disk.checkpoints", "room for checkpoints", "less than twice the memory of the largest job here, or 1 GiB, is free", "less than 64 MiB are free", "checkpoint.dir on a bigger disk, checkpoint.keep lower, or qosctl checkpoints remove"}

	Certificates = Entry{
		"tls.certificates", "the certificates of `tls.cert_file` and, with an authority of the site's own between agents, of `cluster.cert_file`, with their keys", "one ends within two weeks",
		"one has ended, can't be read, or is not of the authorities in `cluster.ca_file`", "issue it anew (qosctl tls issue NODE --node --force) and replace both files: the agent reads them by itself",
	}

	RightsSecrets = Entry{"rights.secrets", "each file with a secret that the configuration names", "its group may read it, or it is another user's", "it can't be read, others may read it, or group or others may write it", "chown root and chmod 0600"}
	RightsConfig  = Entry{"rights.config", "the configuration file and its directory", "others may read it", "others may write it", "chown root and chmod 0640; the directory 0755"}
	RightsDirs    = Entry{"rights.dirs", "`data_dir`, `run_dir` and the checkpoints' directory", "others may read the checkpoints: memory of processes is in them", "others may write one", "chmod 0711 data_dir, 0755 run_dir, 0700 the checkpoints"}
	RightsSockets = Entry{"rights.sockets", "the agent's sockets: the admins' for its group, the stand-ins' for all", "tasks of other users can't use the stand-ins'", "others may use the admins'", "restart the agent, which sets them: 0660 and 0666"}
	RightsHelper  = Entry{"rights.helper", "`checkpoint.helper` and `engine.helper`: the sockets of who dumps, and starts plain processes, for a confined agent", "others may use one", "one is not there", "systemctl start qosctl-dump.socket qosctl-job.socket"}
	RunCommand    = Entry{"run.command", "`run.command`, which frameworks start as each job's task", "", "it is not there, or can't be run", "install the package on this node, or set run.command to where the program is"}
)

// Checks are all of them, in the order in which they are shown.
func Checks() []Entry {
	return []Entry{
		AgentAnswers, AgentConfig, AgentVersion, AgentMode, AgentStore,
		KernelVersion, KernelRestore,
		CgroupHierarchy, CgroupCPU, CgroupWrite,
		DockerAnswers, DockerLive, DockerCgroups, DockerRuntime, DockerStore,
		CRIUVersion, CRIUCheck, SelfTest, Driver,
		MesosAgent, MesosAttr, MesosMaster,
		FrameworkAnswers, FrameworkLogin, FrameworkVersion,
		KeystoneLogin, MonascaAnswers, MonascaSpool,
		PortBind, ClusterKey, ClusterPeers, PortReach,
		ClockPeers, ClockSync,
		DiskData, DiskCheckpoints,
		Certificates,
		RightsConfig, RightsSecrets, RightsDirs, RightsSockets, RightsHelper, RunCommand,
	}
}
