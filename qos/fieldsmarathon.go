package qos

// marathonFields are the fields of an app about what runs, with what, and for whom. Versions 1.4 to 1.11. Source: app.raml of 1.5 and
// later, AppDefinition.json of 1.4.
func marathonFields() []Field {
	return []Field{
		{Name: "id", Type: TextField, Held: Kept, InPlace: Kept, Reason: "name of the job; the groups before its last part are the tenant"},
		{Name: "qos", Type: ObjectField, Held: Translated, InPlace: Translated, Reason: "read by qosctl and taken out: Marathon would drop it without a word"},
		{Name: "cmd", Type: TextField, Held: Translated, InPlace: Kept, Reason: "Marathon gets `exec qosctl run`, which has the agent run this by `sh -c`; 2 characters or more, and not together with args"},
		{Name: "args", Type: TextsField, Held: Translated, InPlace: Kept, Reason: "as cmd, without a shell"},
		{Name: "user", Type: TextField, Held: Kept, InPlace: Kept, Reason: "whom the task, and with it the job, runs as"},
		{Name: "env", Type: MapField, Held: Kept, InPlace: Kept, Secret: true, Reason: "texts only; names beginning with QOSCTL_ are qosctl's own"},
		{Name: "labels", Type: MapField, Held: Kept, InPlace: Kept, Reason: "texts only; labels beginning with qosctl. are added at submit, and never changed later, since that would restart the task"},
		{Name: "cpus", Type: NumberField, Held: Kept, InPlace: Kept, Least: 0.001, Most: maxCPUs, Reason: "the request, 1 if missing; what the job really gets is set on its node between min_cpus and max_cpus"},
		{Name: "mem", Type: NumberField, Held: Kept, InPlace: Kept, Most: 1 << 30, Reason: "MiB, 128 if missing"},
		{Name: "disk", Type: NumberField, Held: Kept, InPlace: Kept, Reason: "MiB, 0 if missing"},
		{
			Name: "gpus", Type: IntegerField, Held: Refused, InPlace: Kept,
			Reason: "a GPU's state cannot be checkpointed, so the job could not be moved", Remedy: setInPlace,
		},
		{
			Name: "instances", Type: IntegerField, Held: Kept, InPlace: Kept,
			Reason: "1 if missing; 0 is refused; more than 1 is refused for held jobs: in place each instance is an execution of its own",
		},
		{
			Name: "resourceLimits", Type: ObjectField, Held: Refused, InPlace: Kept,
			Reason: "its CPU limit is the quota that qosctl sets itself", Remedy: "remove it; max_cpus in the qos block bounds the job",
		},
		{Name: "resourceLimits.cpus", Type: AnyField, Held: Refused, InPlace: Ignored, Reason: "the quota that qosctl sets takes its place", Remedy: "use max_cpus in the qos block"},
		{Name: "resourceLimits.mem", Type: AnyField, Held: Refused, InPlace: Kept, Reason: "the stand-in would get the limit, not the job", Remedy: setInPlace},
		{Name: "executor", Type: TextField, Held: Refused, InPlace: Kept, Reason: "only the command executor (//cmd) starts qosctl as the task", Remedy: setInPlace},
		{Name: "executorResources", Type: ObjectField, Held: Refused, InPlace: Kept, Reason: "belongs to an executor of one's own", Remedy: setInPlace},
		{Name: "executorResources.cpus", Type: NumberField, Held: Refused, InPlace: Kept, Reason: "see executorResources", Remedy: setInPlace},
		{Name: "executorResources.mem", Type: NumberField, Held: Refused, InPlace: Kept, Reason: "see executorResources", Remedy: setInPlace},
		{Name: "executorResources.disk", Type: NumberField, Held: Refused, InPlace: Kept, Reason: "see executorResources", Remedy: setInPlace},
		{Name: "fetch", Type: ListField, Held: Kept, InPlace: Kept, Secret: true, Reason: "Mesos fetches into the task's sandbox, where the job starts"},
		{Name: "uris", Type: TextsField, Held: Kept, InPlace: Kept, Secret: true, Reason: "older name of fetch; not together with it"},
		{Name: "storeUrls", Type: TextsField, Held: Refused, InPlace: Refused, Secret: true, Reason: "Marathon 1.5 took it away", Remedy: "use fetch"},
		{Name: "constraints", Type: ListField, Held: Kept, InPlace: Kept, Reason: "the configured placement constraint is added, so that a job lands on a node with an agent"},
		{Name: "acceptedResourceRoles", Type: TextsField, Held: Kept, InPlace: Kept, Reason: "decides about offers, not about the job"},
		{Name: "role", Type: TextField, Held: Kept, InPlace: Kept, Reason: "decides about offers, not about the job"},
	}
}

// marathonPlaceFields are the fields about an app's network, its checks, and when its tasks are stopped and started.
func marathonPlaceFields() []Field {
	return []Field{
		{Name: "networks", Type: ObjectsField, Held: Translated, InPlace: Kept, Reason: "the stand-in runs on the host's network; the job's container gets this one"},
		{Name: "networks.mode", Type: TextField, Held: Translated, InPlace: Kept, Reason: "host, container/bridge, or container with a name"},
		{Name: "networks.name", Type: TextField, Held: Translated, InPlace: Kept, Reason: "name of the network of mode container"},
		{Name: "networks.labels", Type: MapField, Held: Ignored, InPlace: Kept, Reason: "labels are for Mesos' own networks"},
		{
			Name: "ipAddress", Type: ObjectField, Held: Translated, InPlace: Kept,
			Reason: "older form of networks; only its networkName is understood",
		},
		{Name: "ipAddress.networkName", Type: TextField, Held: Translated, InPlace: Kept, Reason: "name of the network that the container joins"},
		{Name: "ipAddress.groups", Type: TextsField, Held: Ignored, InPlace: Kept, Reason: "Marathon does not use it either"},
		{Name: "ipAddress.labels", Type: MapField, Held: Ignored, InPlace: Kept, Reason: "labels are for Mesos' own networks"},
		{Name: "ipAddress.discovery", Type: ObjectField, Held: Refused, InPlace: Kept, Reason: "belongs to Mesos' own networks", Remedy: "use container.portMappings"},
		{Name: "ipAddress.discovery.ports", Type: ListField, Held: Refused, InPlace: Kept, Reason: "see ipAddress.discovery", Remedy: "use container.portMappings"},
		{Name: "portDefinitions", Type: ListField, Held: Kept, InPlace: Kept, Reason: "the stand-in gets the ports, and the job their PORT variables"},
		{Name: "ports", Type: ListField, Held: Kept, InPlace: Kept, Reason: "older form of portDefinitions; not together with it"},
		{Name: "requirePorts", Type: BoolField, Held: Kept, InPlace: Kept, Reason: "decides about offers, not about the job"},
		{
			Name: "healthChecks", Type: ListField, Held: Refused, InPlace: Kept,
			Reason: "Marathon kills a task that does not answer, and a job does not answer while it is frozen for a checkpoint", Remedy: setInPlace,
		},
		{Name: "check", Type: MapField, Held: Refused, InPlace: Kept, Reason: "it would look at the stand-in, not at the job", Remedy: setInPlace},
		{Name: "readinessChecks", Type: ListField, Held: Refused, InPlace: Kept, Reason: "it would look at the stand-in, not at the job", Remedy: setInPlace},
		{
			Name: "upgradeStrategy", Type: ObjectField, Held: Ignored, InPlace: Kept,
			Reason: "0/0 is sent: any other starts the new task while the old one is still being checkpointed",
		},
		{Name: "upgradeStrategy.minimumHealthCapacity", Type: NumberField, Held: Ignored, InPlace: Kept, Most: 1, Reason: "0 is sent"},
		{Name: "upgradeStrategy.maximumOverCapacity", Type: NumberField, Held: Ignored, InPlace: Kept, Most: 1, Reason: "0 is sent"},
		{
			Name: "unreachableStrategy", Type: AnyField, Held: Ignored, InPlace: Kept,
			Reason: "disabled is sent (1.4: very long times): qosctl replaces a lost task itself, when no second copy can run",
		},
		{Name: "killSelection", Type: TextField, Held: Ignored, InPlace: Kept, Reason: "there is only one instance to choose from"},
		{Name: "taskKillGracePeriodSeconds", Type: IntegerField, Held: Translated, InPlace: Kept, Reason: "at least the time is sent that a checkpoint of the job's memory takes"},
		{Name: "backoffSeconds", Type: IntegerField, Held: Kept, InPlace: Kept, Reason: "time between one execution's end and the next one's start"},
		{Name: "backoffFactor", Type: NumberField, Held: Kept, InPlace: Kept, Least: 1, Reason: "see backoffSeconds"},
		{Name: "maxLaunchDelaySeconds", Type: IntegerField, Held: Kept, InPlace: Kept, Reason: "see backoffSeconds"},
		{
			Name: "dependencies", Type: TextsField, Held: Refused, InPlace: Kept,
			Reason: "a job ends and is deleted, and its moves must not wait for other apps", Remedy: setInPlace,
		},
		{Name: "residency", Type: MapField, Held: Refused, InPlace: Kept, Reason: "ties the task to one node, so the job could not be moved", Remedy: setInPlace},
		{Name: "secrets", Type: MapField, Held: Refused, InPlace: Kept, Secret: true, Reason: "the secret store would give them to the stand-in, where the agent does not read them", Remedy: setInPlace},
		{Name: "tty", Type: BoolField, Held: Refused, InPlace: Kept, Reason: "a terminal cannot be checkpointed", Remedy: setInPlace},
	}
}

// marathonContainerFields are the fields of an app's container, in the shapes of before and since version 1.5.
func marathonContainerFields() []Field {
	const external = "a volume that is not a directory of the host cannot follow the job to another node"
	return []Field{
		{Name: "container", Type: ObjectField, Held: Translated, InPlace: Kept, Reason: "taken out of what Marathon gets: the stand-in runs without, and the agent makes the container"},
		{Name: "container.type", Type: TextField, Held: Translated, InPlace: Kept, Reason: "DOCKER or MESOS, DOCKER if missing"},
		{Name: "container.docker", Type: ObjectField, Held: Translated, InPlace: Kept, Reason: "needed by type DOCKER"},
		{Name: "container.docker.image", Type: TextField, Held: Translated, InPlace: Kept, Reason: "image that the job's container is made from"},
		{Name: "container.docker.forcePullImage", Type: BoolField, Held: Translated, InPlace: Kept, Reason: "pull the image before each execution"},
		{Name: "container.docker.privileged", Type: BoolField, Held: Translated, InPlace: Kept, Reason: "given to the container"},
		{
			Name: "container.docker.parameters", Type: ObjectsField, Held: Translated, InPlace: Kept,
			Reason: "arguments of `docker run`; those that would take the container out of the agent's hands are refused (restart, rm, name, cgroup-parent, cpus, cpu-quota …)",
		},
		{Name: "container.docker.parameters.key", Type: TextField, Held: Translated, InPlace: Kept, Reason: "without the dashes"},
		{Name: "container.docker.parameters.value", Type: TextField, Held: Translated, InPlace: Kept, Secret: true, Reason: "given to the container"},
		{Name: "container.docker.network", Type: TextField, Held: Translated, InPlace: Kept, Reason: "older form of networks: HOST, BRIDGE, USER or NONE; not together with it"},
		{Name: "container.docker.portMappings", Type: ObjectsField, Held: Translated, InPlace: Kept, Reason: "older place of container.portMappings; not together with it"},
		{Name: "container.docker.portMappings.containerPort", Type: IntegerField, Held: Translated, InPlace: Kept, Most: 65535, Reason: "see container.portMappings"},
		{Name: "container.docker.portMappings.hostPort", Type: IntegerField, Held: Translated, InPlace: Kept, Most: 65535, Reason: "see container.portMappings"},
		{Name: "container.docker.portMappings.protocol", Type: TextField, Held: Translated, InPlace: Kept, Reason: "see container.portMappings"},
		{Name: "container.docker.portMappings.name", Type: TextField, Held: Translated, InPlace: Kept, Reason: "see container.portMappings"},
		{Name: "container.docker.portMappings.servicePort", Type: IntegerField, Held: Ignored, InPlace: Kept, Most: 65535, Reason: "see container.portMappings"},
		{Name: "container.docker.portMappings.labels", Type: MapField, Held: Ignored, InPlace: Kept, Reason: "see container.portMappings"},
		{Name: "container.docker.credential", Type: MapField, Held: Refused, InPlace: Kept, Secret: true, Reason: "the agent pulls with the credentials of its own node", Remedy: "log the nodes in to the registry, and remove it"},
		{Name: "container.docker.pullConfig", Type: MapField, Held: Refused, InPlace: Kept, Secret: true, Reason: "the agent pulls with the credentials of its own node", Remedy: "log the nodes in to the registry, and remove it"},
		{Name: "container.appc", Type: MapField, Held: Refused, InPlace: Kept, Reason: "AppC images have no engine that can hold them", Remedy: "use container.docker.image"},
		{Name: "container.linuxInfo", Type: MapField, Held: Refused, InPlace: Kept, Reason: "is for Mesos' own containers", Remedy: setInPlace},
		{Name: "container.portMappings", Type: ObjectsField, Held: Translated, InPlace: Kept, Reason: "become portDefinitions of the stand-in, and ports of the job's container; needs a network of its own, not host"},
		{Name: "container.portMappings.containerPort", Type: IntegerField, Held: Translated, InPlace: Kept, Most: 65535, Reason: "port inside; 0: the same as outside"},
		{Name: "container.portMappings.hostPort", Type: IntegerField, Held: Translated, InPlace: Kept, Most: 65535, Reason: "port outside; 0 or missing: one that Mesos offers"},
		{Name: "container.portMappings.protocol", Type: TextField, Held: Translated, InPlace: Kept, Reason: "tcp, udp or `udp,tcp`; tcp if missing"},
		{Name: "container.portMappings.name", Type: TextField, Held: Translated, InPlace: Kept, Reason: "name of the port's PORT variable"},
		{Name: "container.portMappings.servicePort", Type: IntegerField, Held: Ignored, InPlace: Kept, Most: 65535, Reason: "is for load balancers that read Marathon"},
		{Name: "container.portMappings.labels", Type: MapField, Held: Ignored, InPlace: Kept, Reason: "are for load balancers that read Marathon"},
		{Name: "container.portMappings.networkNames", Type: TextsField, Held: Ignored, InPlace: Kept, Reason: "a job has one network"},
		{Name: "container.volumes", Type: ObjectsField, Held: Translated, InPlace: Kept, Reason: "directories of the host, mounted into the job's container"},
		{Name: "container.volumes.containerPath", Type: TextField, Held: Translated, InPlace: Kept, Reason: "absolute path inside"},
		{Name: "container.volumes.hostPath", Type: TextField, Held: Translated, InPlace: Kept, Reason: "absolute path on the node"},
		{Name: "container.volumes.mode", Type: TextField, Held: Translated, InPlace: Kept, Reason: "RO or RW"},
		{Name: "container.volumes.persistent", Type: MapField, Held: Refused, InPlace: Kept, Reason: external, Remedy: setInPlace},
		{Name: "container.volumes.external", Type: MapField, Held: Refused, InPlace: Kept, Reason: external, Remedy: setInPlace},
		{Name: "container.volumes.secret", Type: TextField, Held: Refused, InPlace: Kept, Secret: true, Reason: "see secrets", Remedy: setInPlace},
	}
}

// marathonReadOnlyFields are those that Marathon's answers have beside: a file made from an answer has them too.
func marathonReadOnlyFields() []Field {
	const answer = "stands in Marathon's answers only"
	return []Field{
		{
			Name: "version", Type: TextField, Held: Refused, InPlace: Refused,
			Reason: "an update with a version is a rollback to that version", Remedy: "remove it: it comes from an answer of Marathon",
		},
		{Name: "versionInfo", Type: MapField, Held: Ignored, InPlace: Ignored, Reason: answer},
		{Name: "tasks", Type: ListField, Held: Ignored, InPlace: Ignored, Reason: answer},
		{Name: "tasksStaged", Type: IntegerField, Held: Ignored, InPlace: Ignored, Reason: answer},
		{Name: "tasksRunning", Type: IntegerField, Held: Ignored, InPlace: Ignored, Reason: answer},
		{Name: "tasksHealthy", Type: IntegerField, Held: Ignored, InPlace: Ignored, Reason: answer},
		{Name: "tasksUnhealthy", Type: IntegerField, Held: Ignored, InPlace: Ignored, Reason: answer},
		{Name: "tasksStats", Type: MapField, Held: Ignored, InPlace: Ignored, Reason: answer},
		{Name: "deployments", Type: ListField, Held: Ignored, InPlace: Ignored, Reason: answer},
		{Name: "lastTaskFailure", Type: MapField, Held: Ignored, InPlace: Ignored, Reason: answer},
		{Name: "readinessCheckResults", Type: ListField, Held: Ignored, InPlace: Ignored, Reason: answer},
		{Name: "apps", Type: ListField, Held: Refused, InPlace: Refused, Reason: "makes it a group of apps", Remedy: "write each app into a file of its own"},
		{Name: "groups", Type: ListField, Held: Refused, InPlace: Refused, Reason: "makes it a group of apps", Remedy: "write each app into a file of its own"},
		{Name: "containers", Type: ListField, Held: Refused, InPlace: Refused, Reason: "makes it a pod, whose containers share one task", Remedy: "write an app with one container"},
	}
}
