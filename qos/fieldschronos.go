package qos

// chronosFields are the fields of Chronos' jobs, of versions 2.x and 3.x. Source: JobDeserializer.
func chronosFields() []Field {
	const counter = "a counter of Chronos', which a file must not set"
	return []Field{
		{Name: "name", Type: TextField, Held: Kept, InPlace: Kept, Reason: "letters, digits, `_`, `-` and `.`"},
		{Name: "qos", Type: ObjectField, Held: Translated, InPlace: Translated, Reason: "read by qosctl and taken out: Chronos would drop it without a word"},
		{
			Name: "schedule", Type: TextField, Held: Translated, InPlace: Translated,
			Reason: "`Rn/start/period`: n is the number of iterations, the deadline counts from the start; the period is not used. Chronos gets one that never starts by itself",
		},
		{Name: "scheduleTimeZone", Type: TextField, Held: Translated, InPlace: Translated, Reason: "UTC only; an offset belongs into the start of the schedule"},
		{
			Name: "parents", Type: TextsField, Held: Refused, InPlace: Refused,
			Reason: "a job that waits for others has no start that a deadline could count from", Remedy: "give it a schedule, and submit it when its parents have ended",
		},
		{Name: "command", Type: TextField, Held: Translated, InPlace: Kept, Reason: "Chronos gets `exec qosctl run`, which has the agent run this by `sh -c`, once for each iteration; with iterations_by chronos it is not rewritten"},
		{
			Name: "arguments", Type: TextsField, Held: Translated, InPlace: Kept,
			Reason: "appended to the command, without semicolons, as Chronos does",
		},
		{
			Name: "shell", Type: BoolField, Held: Kept, InPlace: Kept,
			Reason: "true, the default; false is refused for held jobs, because Chronos makes one program name of command and arguments",
		},
		{Name: "cpus", Type: NumberField, Held: Kept, InPlace: Kept, Least: 0.001, Most: maxCPUs, Reason: "the request, 0.1 if missing; what the job really gets is set on its node between min_cpus and max_cpus"},
		{Name: "mem", Type: NumberField, Held: Kept, InPlace: Kept, Least: 1, Most: 1 << 30, Reason: "MiB, 128 if missing"},
		{Name: "disk", Type: NumberField, Held: Kept, InPlace: Kept, Reason: "MiB, Chronos' default if missing"},
		{Name: "owner", Type: TextField, Held: Kept, InPlace: Kept, Reason: "the tenant"},
		{Name: "ownerName", Type: TextField, Held: Kept, InPlace: Kept, Reason: forPeople},
		{Name: "description", Type: TextField, Held: Kept, InPlace: Kept, Reason: forPeople},
		{Name: "runAsUser", Type: TextField, Held: Kept, InPlace: Kept, Reason: "whom the task, and with it the job, runs as"},
		{Name: "environmentVariables", Type: ObjectsField, Held: Kept, InPlace: Kept, Secret: true, Reason: "names beginning with QOSCTL_ are qosctl's own, and Chronos' cannot be replaced"},
		{Name: "environmentVariables.name", Type: TextField, Held: Kept, InPlace: Kept, Reason: "name of the variable"},
		{Name: "environmentVariables.value", Type: AnyField, Held: Kept, InPlace: Kept, Secret: true, Reason: "a text; numbers and booleans are taken as they are written"},
		{Name: "fetch", Type: ListField, Held: Kept, InPlace: Kept, Secret: true, Reason: "Mesos fetches into the task's sandbox, where the job starts"},
		{Name: "uris", Type: TextsField, Held: Kept, InPlace: Kept, Secret: true, Reason: "older name of fetch; not together with it"},
		{Name: "constraints", Type: ListField, Held: Kept, InPlace: Kept, Reason: "EQUALS, LIKE and UNLIKE only: Chronos drops others without a word; the configured placement constraint is added"},
		{Name: "retries", Type: IntegerField, Held: Ignored, InPlace: Ignored, Reason: "0 is sent: a retry in Chronos can make a finite schedule infinite; max_failures in the qos block bounds failures"},
		{Name: "concurrent", Type: BoolField, Held: Ignored, InPlace: Ignored, Reason: "false is sent: iterations run one after the other"},
		{Name: "disabled", Type: BoolField, Held: Refused, InPlace: Refused, Reason: "a disabled job is never started", Remedy: "remove it"},
		{Name: "async", Type: BoolField, Held: Ignored, InPlace: Ignored, Reason: "Chronos 3 does not know it, and an asynchronous job says its end itself"},
		{Name: "epsilon", Type: TextField, Held: Ignored, InPlace: Ignored, Reason: "Chronos 3 does not know it, and iterations are not started by time"},
		{Name: "softError", Type: BoolField, Held: Ignored, InPlace: Ignored, Reason: "is about jobs that depend on this one; a failed iteration stays a failed one"},
		{Name: "highPriority", Type: BoolField, Held: Kept, InPlace: Kept, Reason: "decides about offers, not about the job"},
		{Name: "dataProcessingJobType", Type: BoolField, Held: Kept, InPlace: Kept, Reason: "has no effect on qosctl"},
		{
			Name: "maxCompletionTime", Type: IntegerField, Held: Refused, InPlace: Kept,
			Reason: "Chronos launches all iterations as one task, and would kill it after the time of one", Remedy: `remove it, or set "iterations_by": "chronos" in the qos block`,
		},
		{Name: "executor", Type: TextField, Held: Refused, InPlace: Kept, Reason: "only the command executor starts qosctl as the task", Remedy: setInPlace},
		{Name: "executorFlags", Type: TextField, Held: Refused, InPlace: Kept, Reason: "belongs to an executor of one's own", Remedy: setInPlace},
		{Name: "taskInfoData", Type: TextField, Held: Refused, InPlace: Kept, Reason: "belongs to an executor of one's own", Remedy: setInPlace},
		{Name: "successCount", Type: IntegerField, Held: Ignored, InPlace: Ignored, Reason: counter},
		{Name: "errorCount", Type: IntegerField, Held: Ignored, InPlace: Ignored, Reason: counter},
		{Name: "errorsSinceLastSuccess", Type: IntegerField, Held: Ignored, InPlace: Ignored, Reason: counter},
		{Name: "lastSuccess", Type: TextField, Held: Ignored, InPlace: Ignored, Reason: counter},
		{Name: "lastError", Type: TextField, Held: Ignored, InPlace: Ignored, Reason: counter},
	}
}

// chronosContainerFields are the fields of a job's container.
func chronosContainerFields() []Field {
	return []Field{
		{Name: "container", Type: ObjectField, Held: Translated, InPlace: Kept, Reason: "taken out of what Chronos gets: the stand-in runs without, and the agent makes the container"},
		{Name: "container.type", Type: TextField, Held: Translated, InPlace: Kept, Reason: "DOCKER or MESOS in any case, DOCKER if missing"},
		{Name: "container.image", Type: TextField, Held: Translated, InPlace: Kept, Reason: "needed: without it Chronos would run the command outside of any container, without a word"},
		{Name: "container.forcePullImage", Type: BoolField, Held: Translated, InPlace: Kept, Reason: "pull the image before each iteration"},
		{Name: "container.network", Type: TextField, Held: Translated, InPlace: Kept, Reason: "HOST, BRIDGE or USER, in capitals; HOST if missing"},
		{Name: "container.networkName", Type: TextField, Held: Translated, InPlace: Kept, Reason: "name of the network, with USER"},
		{Name: "container.networkInfos", Type: ObjectsField, Held: Translated, InPlace: Kept, Reason: "the first one's name is the network's, with USER"},
		{Name: "container.networkInfos.name", Type: TextField, Held: Translated, InPlace: Kept, Reason: "see container.networkInfos"},
		{Name: "container.networkInfos.protocol", Type: TextField, Held: Ignored, InPlace: Ignored, Reason: "Chronos does not pass it on either"},
		{Name: "container.networkInfos.labels", Type: ListField, Held: Ignored, InPlace: Kept, Reason: "labels are for Mesos' own networks"},
		{
			Name: "container.networkInfos.portMappings", Type: ListField, Held: Refused, InPlace: Refused,
			Reason: "Chronos reads port mappings and does not pass them on", Remedy: "use network HOST, or container.parameters with the key publish",
		},
		{
			Name: "container.parameters", Type: ObjectsField, Held: Translated, InPlace: Kept,
			Reason: "arguments of `docker run`; those that would take the container out of the agent's hands are refused (restart, rm, name, cgroup-parent, cpus, cpu-quota …)",
		},
		{Name: "container.parameters.key", Type: TextField, Held: Translated, InPlace: Kept, Reason: "without the dashes"},
		{Name: "container.parameters.value", Type: TextField, Held: Translated, InPlace: Kept, Secret: true, Reason: "given to the container"},
		{Name: "container.volumes", Type: ObjectsField, Held: Translated, InPlace: Kept, Reason: "directories of the host, mounted into the job's container"},
		{Name: "container.volumes.containerPath", Type: TextField, Held: Translated, InPlace: Kept, Reason: "absolute path inside"},
		{Name: "container.volumes.hostPath", Type: TextField, Held: Translated, InPlace: Kept, Reason: "absolute path on the node"},
		{Name: "container.volumes.mode", Type: TextField, Held: Translated, InPlace: Kept, Reason: "RO or RW, in any case"},
		{
			Name: "container.volumes.external", Type: MapField, Held: Refused, InPlace: Kept,
			Reason: "a volume that is not a directory of the host cannot follow the job to another node", Remedy: setInPlace,
		},
	}
}
