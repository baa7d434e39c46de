package agent

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"qosctl/monasca"
	"qosctl/qos"
)

// Policies, modes and so on that a configuration may name.
var (
	logLevels     = []string{"debug", "info", "warn", "error"}
	logFormats    = []string{"text", "json"}
	controlModes  = []string{"act", "advise", "observe"}
	borrowKinds   = []string{"idle", "none"}
	frameworkKind = []string{"marathon", "chronos"}
	driverNames   = []string{"auto", "runtime", "docker", "none"}
	tcpKinds      = []string{"refuse", "keep", "close"}
	volumeKinds   = []string{"refuse", "shared"}
	placements    = []string{placeByHints, "any"}
	resizeKinds   = []string{"auto", "inplace", "reschedule"}
)

var (
	nodeName      = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?$`)
	endpointName  = regexp.MustCompile(`^[a-z0-9]([a-z0-9_.-]{0,62})$`)
	attributeName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
	dockerAddress = regexp.MustCompile(`^unix:///[^\x00\s]+$`)
	commandPath   = regexp.MustCompile(`^/[A-Za-z0-9_./+,:@=-]+$`)
)

const (
	longestSocket = len("/standin.sock")
	maxSunPath    = 107 // bytes of a unix socket's path that the kernel takes
	minQuota      = 0.01
	maxMB         = 1 << 20
	leastInterval = 10 * time.Second
)

// Validate joins every fault of the configuration, each with its key and value. It reads no file.
func (c Config) Validate() error {
	var p problems
	p.check(c.Node == "" || nodeName.MatchString(c.Node), "node", c.Node, "must be letters, digits, '.', '_' and '-'")
	p.absolute("data_dir", c.DataDir, true)
	p.absolute("run_dir", c.RunDir, true)
	p.check(len(c.RunDir)+longestSocket <= maxSunPath, "run_dir", c.RunDir,
		fmt.Sprintf("must be at most %d bytes long, so that the paths of the sockets in it fit", maxSunPath-longestSocket))
	p.listen("listen", c.Listen)
	p.absolute("token_file", c.TokenFile, false)
	p.oneOf("log.level", c.Log.Level, logLevels)
	p.oneOf("log.format", c.Log.Format, logFormats)
	p.absolute("cgroup.root", c.Cgroup.Root, true)
	p.absolute("cgroup.proc", c.Cgroup.Proc, true)
	p.absolute("cgroup.parent", c.Cgroup.Parent, true)
	p.check(c.Cgroup.Parent != "/", "cgroup.parent", c.Cgroup.Parent, "must not be the root: containers need a cgroup of their own")
	p.engine(c.Engine)
	p.checkpoint(c.Checkpoint)
	p.control(c.Control)
	p.run(c.Run)
	for _, name := range slices.Sorted(maps.Keys(c.Frameworks)) {
		p.framework(name, c.Frameworks[name])
	}
	if c.Mesos.URL != "" {
		p.url("mesos.url", c.Mesos.URL)
	}
	p.positive("mesos.poll", c.Mesos.Poll)
	for i, u := range c.Mesos.Master {
		p.url(fmt.Sprintf("mesos.master[%d]", i), u)
	}
	p.absolute("mesos.master_ca_file", c.Mesos.MasterCAFile, false)
	p.absolute("mesos.master_password_file", c.Mesos.MasterPasswordFile, false)
	p.check((c.Mesos.MasterUsername == "") == (c.Mesos.MasterPasswordFile == ""), "mesos.master_password_file", c.Mesos.MasterPasswordFile,
		"master_username and master_password_file must be given together")
	p.cluster(c.Cluster)
	p.monasca(c.Monasca)
	p.access(c.Access)
	p.thesis(c)
	p.tls(c)
	return errors.Join(p...)
}

// problems gathers what is wrong.
type problems []error

func (p *problems) add(key string, value any, text string) {
	if s, ok := value.(string); ok {
		value = strconv.Quote(withoutSecret(key, s))
	}
	*p = append(*p, fmt.Errorf("%s: %s (got %v)", key, text, value))
}

// withoutSecret is a value as an error may show it: who writes a secret where its hash or its file belongs does not find it in the log.
func withoutSecret(key, value string) string {
	hash := strings.HasSuffix(key, ".hash") && !strings.HasPrefix(value, hashPrefix)
	file := slices.ContainsFunc(secretKeys, func(end string) bool { return strings.HasSuffix(key, end) }) && !path.IsAbs(value) && !strings.HasPrefix(value, credentialPrefix)
	if value != "" && (hash || file) {
		return Masked
	}
	return value
}

func (p *problems) check(ok bool, key string, value any, text string) {
	if !ok {
		p.add(key, value, text)
	}
}

func (p *problems) engine(e EngineConfig) {
	p.check(e.Docker == "" || dockerAddress.MatchString(e.Docker), "engine.docker", e.Docker, "must be unix:///PATH, or empty for none")
	p.absolute("engine.docker_config", e.DockerConfig, false)
	p.absolute("engine.helper", e.Helper, false)
	p.check(e.MaxLogMB > 0 && e.MaxLogMB <= maxMB, "engine.max_log_mb", e.MaxLogMB, fmt.Sprintf("must be between 1 and %d", maxMB))
	for _, image := range slices.Sorted(maps.Keys(e.Images)) {
		p.check(image != "" && !strings.ContainsAny(image, " \t\n"), "engine.images", image, "an image's name must not be empty or have blanks")
		p.absolute("engine.images."+image, e.Images[image], true)
	}
}

func (p *problems) checkpoint(c CheckpointConfig) {
	p.oneOf("checkpoint.driver", c.Driver, driverNames)
	p.absolute("checkpoint.dir", c.Dir, false)
	p.absolute("checkpoint.helper", c.Helper, false)
	p.check(c.Keep >= 1 && c.Keep <= 100, "checkpoint.keep", c.Keep, "must be between 1 and 100")
	p.check(c.MaxMB >= 0, "checkpoint.max_mb", c.MaxMB, "must be >= 0")
	p.check(c.Interval == 0 || c.Interval >= leastInterval, "checkpoint.interval", c.Interval, fmt.Sprintf("must be 0 (none) or at least %s", leastInterval))
	p.positive("checkpoint.dump_time", c.DumpTime)
	p.positive("checkpoint.restore_time", c.RestoreTime)
	p.check(c.Replicas >= 0 && c.Replicas <= maxReplicas, "checkpoint.replicas", c.Replicas, fmt.Sprintf("must be between 0 and %d", maxReplicas))
	p.check(c.RateMB >= 0 && c.RateMB <= maxMB, "checkpoint.rate_mb", c.RateMB, fmt.Sprintf("must be between 0 (no limit) and %d", maxMB))
	p.check(!c.Shared || c.Dir != "", "checkpoint.dir", c.Dir, "must name the directory that all nodes see, with checkpoint.shared")
	p.oneOf("checkpoint.tcp", c.TCP, tcpKinds)
	p.oneOf("checkpoint.volumes", c.Volumes, volumeKinds)
}

func (p *problems) control(c ControlConfig) {
	p.positive("control.step_period", c.StepPeriod)
	p.oneOf("control.resize", c.Resize, resizeKinds)
	p.positive("control.move_timeout", c.MoveTimeout)
	p.oneOf("control.mode", c.Mode, controlModes)
	p.check(!c.DryRun || c.Mode == modeAdvise, "control.dry_run", c.DryRun, "goes with control.mode advise, not "+c.Mode)
	p.oneOf("control.policy", c.Policy, qos.PolicyNames())
	p.positive("control.period", c.Period)
	p.positive("control.sample", c.Sample)
	p.check(c.Sample <= c.Period || c.Period <= 0, "control.sample", c.Sample, fmt.Sprintf("must not be longer than control.period, %s", c.Period))
	p.notNegative("control.dwell", c.Dwell)
	p.number("control.cpus", c.CPUs, 0)
	p.number("control.reserve_cpus", c.Reserve, 0)
	p.check(c.CPUs == 0 || !(c.Reserve >= c.CPUs), "control.reserve_cpus", c.Reserve, fmt.Sprintf("must be less than control.cpus, %g", c.CPUs))
	p.number("control.min_cpus", c.MinCPUs, minQuota)
	p.number("control.max_cpus", c.MaxCPUs, 0)
	p.check(c.MaxCPUs == 0 || !(c.MaxCPUs < c.MinCPUs), "control.max_cpus", c.MaxCPUs, fmt.Sprintf("must be 0 or at least control.min_cpus, %g", c.MinCPUs))
	p.number("control.increment", c.Increment, minQuota)
	p.number("control.decrement", c.Decrement, minQuota)
	p.oneOf("control.borrow", c.Borrow, borrowKinds)
	p.oneOf("control.placement", c.Placement, placements)
	p.notNegative("control.deployment_time", c.DeployTime)
	p.notNegative("control.sleeping_time", c.SleepingTime)
}

func (p *problems) run(r RunConfig) {
	p.check(commandPath.MatchString(r.Command), "run.command", r.Command, "must be an absolute path without blanks or characters that a shell minds")
	p.positive("run.detach_grace", r.DetachGrace)
	p.notNegative("run.kill_grace", r.KillGrace)
	p.check(r.Constraint == "" || attributeName.MatchString(r.Constraint), "run.constraint", r.Constraint, "must be the name of a Mesos agent's attribute, or empty")
}

func (p *problems) framework(name string, f FrameworkConfig) {
	at := "frameworks." + name
	p.check(endpointName.MatchString(name), "frameworks", name, "a name must be lower-case letters, digits, '.', '_' and '-'")
	p.oneOf(at+".type", f.Type, frameworkKind)
	p.check(len(f.URLs) > 0 || f.CredentialsFile != "", at+".urls", f.URLs, "must have at least one URL, or credentials_file must be given")
	for i, u := range f.URLs {
		p.url(fmt.Sprintf("%s.urls[%d]", at, i), u)
	}
	p.absolute(at+".ca_file", f.CAFile, false)
	p.absolute(at+".password_file", f.PasswordFile, false)
	p.absolute(at+".token_file", f.TokenFile, false)
	p.absolute(at+".credentials_file", f.CredentialsFile, false)
	p.check((f.Username == "") == (f.PasswordFile == ""), at+".password_file", f.PasswordFile, "username and password_file must be given together")
	ways := 0
	for _, set := range []bool{f.Username != "", f.TokenFile != "", f.CredentialsFile != ""} {
		if set {
			ways++
		}
	}
	p.check(ways <= 1, at, name, "must have only one of username, token_file and credentials_file")
	p.positive(at+".timeout", f.Timeout)
	p.positive(at+".poll", f.Poll)
}

func (p *problems) monasca(m MonascaConfig) {
	p.absolute("monasca.credentials_file", m.CredentialsFile, false)
	if m.URL != "" {
		p.url("monasca.url", m.URL)
	}
	p.absolute("monasca.ca_file", m.CAFile, false)
	p.check(m.Interval >= time.Second, "monasca.interval", m.Interval, "must be at least 1s")
	p.positive("monasca.timeout", m.Timeout)
	p.absolute("monasca.spool_dir", m.SpoolDir, false)
	p.check(m.SpoolMaxMB >= 1 && m.SpoolMaxMB <= maxMB, "monasca.spool_max_mb", m.SpoolMaxMB, fmt.Sprintf("must be between 1 and %d", maxMB))
	p.check(m.SpoolMaxAge > 0 && m.SpoolMaxAge <= monasca.LongestAge, "monasca.spool_max_age", m.SpoolMaxAge,
		fmt.Sprintf("must be > 0 and at most %s: Monasca takes nothing that is older than 14 days", monasca.LongestAge))
}

func (p *problems) absolute(key, value string, required bool) {
	if value == "" && !required {
		return
	}
	if name, ok := strings.CutPrefix(value, credentialPrefix); ok && strings.HasSuffix(key, "_file") {
		p.check(credentialName.MatchString(name), key, value, "must be the name of a systemd credential")
		return
	}
	p.check(path.IsAbs(value) && path.Clean(value) == value && !strings.ContainsRune(value, 0), key, value,
		"must be an absolute path without '..', '//' or a slash at its end")
}

func (p *problems) listen(key, value string) {
	if value == "" {
		return
	}
	_, port, err := net.SplitHostPort(value)
	n, errPort := strconv.ParseUint(port, 10, 16)
	p.check(err == nil && errPort == nil && strconv.FormatUint(n, 10) == port, key, value, "must be HOST:PORT, or empty for no TCP address")
}

func (p *problems) url(key, value string) {
	u, err := url.Parse(value)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		p.add(key, maskURL(value), "must be a URL such as http://host:8080")
	case u.User != nil:
		p.add(key, maskURL(value), "must not have a user or password: use username and password_file")
	case u.RawQuery != "" || u.Fragment != "":
		p.add(key, maskURL(value), "must not have a query or fragment")
	}
}

func (p *problems) oneOf(key, value string, allowed []string) {
	p.check(slices.Contains(allowed, value), key, value, "must be one of "+strings.Join(allowed, ", "))
}

func (p *problems) positive(key string, d time.Duration) {
	p.check(d > 0, key, d, "must be > 0")
}

func (p *problems) notNegative(key string, d time.Duration) {
	p.check(d >= 0, key, d, "must be >= 0")
}

func (p *problems) number(key string, f, least float64) {
	p.check(f >= least && !math.IsInf(f, 0), key, f, fmt.Sprintf("must be a number >= %g", least))
}
