package agent

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestTheDocumentedConfigurationIsTheDefault(t *testing.T) {
	t.Parallel()
	const path = "../docs/qosctl.yaml"
	c, err := Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), c, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for key := range Keys() {
		parts := strings.Split(key, ".")
		if !strings.Contains(string(data), parts[len(parts)-1]+":") {
			t.Errorf("%s doesn't mention %s", path, key)
		}
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestLoadTakesFileThenEnvironmentThenSettings(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "c.yaml")
	file := `
node: from-file
control: {period: 2s, cpus: 3, policy: step}
engine:
  images: {registry.local:5000/A/b.c:Tag_1: /srv/x}
frameworks:
  main.one: {type: marathon, urls: [http://m:8080, http://n:8080], timeout: 3s}
  other: {type: chronos, urls: "http://a,http://b"}
`
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path, []string{
		"QOSCTL_CONTROL_PERIOD=3s", "QOSCTL_CONTROL_POLICY=none", "QOSCTL_DATA_DIR=/d", "QOSCTL_CONTROL_CPUS=1.5",
		"QOSCTL_SECRET=not ours", "QOSCTL_AGENT=not ours", "QOSCTL_ENGINE_MAX_LOG_MB=7", "QOSCTL_LISTEN=",
	}, "control.policy=deadline", "run_dir=/r", "thesis.enabled=true", "thesis.from=10.0.0.0/8,192.0.2.7")
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Node, want.DataDir, want.RunDir, want.Listen = "from-file", "/d", "/r", ""
	want.Control.Period, want.Control.CPUs = 3*time.Second, 1.5
	want.Thesis = ThesisConfig{Enabled: true, From: []string{"10.0.0.0/8", "192.0.2.7"}}
	want.Engine = EngineConfig{Docker: "unix:///var/run/docker.sock", Images: map[string]string{"registry.local:5000/A/b.c:Tag_1": "/srv/x"}, MaxLogMB: 7}
	want.Frameworks = map[string]FrameworkConfig{
		"main.one": {Type: "marathon", URLs: []string{"http://m:8080", "http://n:8080"}, Timeout: 3 * time.Second, Poll: 10 * time.Second},
		"other":    {Type: "chronos", URLs: []string{"http://a", "http://b"}, Timeout: 10 * time.Second, Poll: 10 * time.Second},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		file     string
		env      []string
		settings []string
		want     string
	}{
		"not YAML":                      {file: "a: [", want: "not YAML"},
		"a list":                        {file: "- a", want: "not YAML"},
		"an unknown key":                {file: "intervall: 5", want: "intervall"},
		"an unknown key in a block":     {file: "control: {intervall: 5}", want: "intervall"},
		"an unknown key of a framework": {file: "frameworks: {m: {typ: x}}", want: "typ"},
		"a bare duration":               {file: "control: {period: 5}", want: `'control.period' duration 5 needs a unit`},
		"a bare duration in quotes":     {file: "control: {period: '5'}", want: "control.period"},
		"a framework's bare duration":   {file: "frameworks: {m: {timeout: 5}}", want: "needs a unit"},
		"a number for a text":           {file: "data_dir: 5", want: "data_dir"},
		"a text for a number":           {file: "control: {cpus: '5'}", want: "control.cpus"},
		"a fraction for a whole":        {file: "engine: {max_log_mb: 1.5}", want: "max_log_mb"},
		"a text for a block":            {file: "control: fast", want: "control"},
		"a key twice":                   {file: "node: a\nnode: b", want: "already defined"},
		"two documents":                 {file: "node: a\n---\nnode: b", want: "more than one"},
		"a framework in upper case":     {file: "frameworks: {Marathon: {type: marathon}}", want: "frameworks.Marathon: the name must be lower case"},
		"environment without a unit":    {env: []string{"QOSCTL_CONTROL_PERIOD=5"}, want: `control.period: duration "5" needs`},
		"environment not a number":      {env: []string{"QOSCTL_CONTROL_CPUS=x"}, want: `control.cpus: "x" is not a number`},
		"environment not whole":         {env: []string{"QOSCTL_ENGINE_MAX_LOG_MB=1.5"}, want: "not a whole number"},
		"a setting neither yes nor no":  {settings: []string{"checkpoint.shared=perhaps"}, want: `checkpoint.shared: "perhaps" is neither true nor false`},
		"an unknown setting":            {settings: []string{"control.x=1"}, want: `setting "control.x=1" must be KEY=VALUE`},
		"a setting without a value":     {settings: []string{"node"}, want: "must be KEY=VALUE"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse([]byte(tt.file), tt.env, tt.settings...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want something with %q", err, tt.want)
			}
		})
	}
}

func TestADryRunIsTheModeAdvise(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file, setting, mode string
		sound               bool
	}{
		{"control: {dry_run: true}", "", modeAdvise, true},
		{"control: {dry_run: true, mode: advise}", "", modeAdvise, true},
		{"", "control.dry_run=true", modeAdvise, true},
		{"control: {dry_run: false}", "", modeAct, true},
		{"control: {dry_run: false, mode: observe}", "", modeObserve, true},
		{"control: {dry_run: true, mode: act}", "", modeAct, false},
		{"control: {mode: observe}", "control.dry_run=true", modeObserve, false},
	} {
		var settings []string
		if c.setting != "" {
			settings = []string{c.setting}
		}
		got, err := Parse([]byte(c.file), nil, settings...)
		if err != nil {
			t.Errorf("%s %s: %v", c.file, c.setting, err)
			continue
		}
		err = got.Validate()
		if got.Control.Mode != c.mode || (err == nil) != c.sound {
			t.Errorf("%s %s: mode %s, %v", c.file, c.setting, got.Control.Mode, err)
		}
	}
}

func TestLoadRefusesFilesItCannotRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	long := filepath.Join(dir, "long")
	if err := os.WriteFile(long, []byte(strings.Repeat("# x\n", MaxConfig/4+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{long, dir, filepath.Join(dir, "none")} {
		if _, err := Load(path, nil); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

func TestValidateNamesKeyAndValue(t *testing.T) {
	t.Parallel()
	with := func(f FrameworkConfig) func(*Config) {
		return func(c *Config) { c.Frameworks = map[string]FrameworkConfig{"m": f} }
	}
	ok := FrameworkConfig{Type: "marathon", URLs: []string{"http://m:8080"}, Timeout: 1, Poll: 1}
	tests := map[string]struct {
		change func(*Config)
		want   string
	}{
		"monasca url": {func(c *Config) { c.Monasca.URL = "http://u:p@h" }, "monasca.url: must not have a user or password"},
		"monasca age": {func(c *Config) { c.Monasca.SpoolMaxAge = 400 * time.Hour }, "monasca.spool_max_age: must be > 0 and at most 312h0m0s"},
		"monasca":     {func(c *Config) { c.Monasca.Interval = time.Millisecond }, "monasca.interval: must be at least 1s (got 1ms)"},
		"spool":       {func(c *Config) { c.Monasca.SpoolMaxMB = 0 }, "monasca.spool_max_mb: must be between 1 and 1048576 (got 0)"},
		"node":        {func(c *Config) { c.Node = "a b" }, `node: must be letters, digits, '.', '_' and '-' (got "a b")`},
		"data_dir":    {func(c *Config) { c.DataDir = "data" }, `data_dir: must be an absolute path without '..', '//' or a slash at its end (got "data")`},
		"run_dir":     {func(c *Config) { c.RunDir = "/" + strings.Repeat("x", 95) }, "run_dir: must be at most 94 bytes long"},
		"listen":      {func(c *Config) { c.Listen = "127.0.0.1" }, `listen: must be HOST:PORT, or empty for no TCP address (got "127.0.0.1")`},
		"port":        {func(c *Config) { c.Listen = ":70000" }, "listen: must be HOST:PORT"},
		"token_file":  {func(c *Config) { c.TokenFile = "t" }, "token_file: must be an absolute path"},
		"level":       {func(c *Config) { c.Log.Level = "loud" }, `log.level: must be one of debug, info, warn, error (got "loud")`},
		"format":      {func(c *Config) { c.Log.Format = "" }, "log.format: must be one of text, json"},
		"parent":      {func(c *Config) { c.Cgroup.Parent = "/" }, "cgroup.parent: must not be the root"},
		"climbing":    {func(c *Config) { c.Cgroup.Parent = "/a/../b" }, "cgroup.parent: must be an absolute path"},
		"max_log_mb":  {func(c *Config) { c.Engine.MaxLogMB = 0 }, "engine.max_log_mb: must be between 1 and 1048576 (got 0)"},
		"images":      {func(c *Config) { c.Engine.Images = map[string]string{"a": "b"} }, "engine.images.a: must be an absolute path"},
		"no image":    {func(c *Config) { c.Engine.Images = map[string]string{"": "/b"} }, "engine.images: an image's name must not be empty"},
		"dry run":     {func(c *Config) { c.Control.DryRun = true }, "control.dry_run: goes with control.mode advise, not act (got true)"},
		"mode":        {func(c *Config) { c.Control.Mode = "on" }, "control.mode: must be one of act, advise, observe"},
		"policy":      {func(c *Config) { c.Control.Policy = "x" }, "control.policy: must be one of deadline, step, step-code, none"},
		"period":      {func(c *Config) { c.Control.Period = -time.Second }, "control.period: must be > 0 (got -1s)"},
		"sample":      {func(c *Config) { c.Control.Sample = time.Minute }, "control.sample: must not be longer than control.period, 5s (got 1m0s)"},
		"dwell":       {func(c *Config) { c.Control.Dwell = -1 }, "control.dwell: must be >= 0"},
		"NaN":         {func(c *Config) { c.Control.CPUs = math.NaN() }, "control.cpus: must be a number >= 0 (got NaN)"},
		"infinite":    {func(c *Config) { c.Control.MaxCPUs = math.Inf(1) }, "control.max_cpus: must be a number >= 0 (got +Inf)"},
		"reserve":     {func(c *Config) { c.Control.CPUs, c.Control.Reserve = 2, 2 }, "control.reserve_cpus: must be less than control.cpus, 2 (got 2)"},
		"min":         {func(c *Config) { c.Control.MinCPUs = 0 }, "control.min_cpus: must be a number >= 0.01 (got 0)"},
		"max":         {func(c *Config) { c.Control.MaxCPUs = 0.05 }, "control.max_cpus: must be 0 or at least control.min_cpus, 0.1 (got 0.05)"},
		"placement":   {func(c *Config) { c.Control.Placement = "x" }, "control.placement: must be one of hints, any"},
		"borrow":      {func(c *Config) { c.Control.Borrow = "all" }, "control.borrow: must be one of idle, none"},
		"command":     {func(c *Config) { c.Run.Command = "/a b; rm" }, "run.command: must be an absolute path without blanks"},
		"detach":      {func(c *Config) { c.Run.DetachGrace = 0 }, "run.detach_grace: must be > 0 (got 0s)"},
		"constraint":  {func(c *Config) { c.Run.Constraint = "a b" }, "run.constraint: must be the name"},
		"mesos":       {func(c *Config) { c.Mesos.URL = "x" }, `mesos.url: must be a URL such as http://host:8080 (got "x")`},
		"type":        {with(FrameworkConfig{Type: "aurora", URLs: ok.URLs, Timeout: 1, Poll: 1}), `frameworks.m.type: must be one of marathon, chronos (got "aurora")`},
		"no URL":      {with(FrameworkConfig{Type: "chronos", Timeout: 1, Poll: 1}), "frameworks.m.urls: must have at least one URL"},
		"password":    {with(FrameworkConfig{Type: "chronos", URLs: []string{"http://u:pw@h"}, Timeout: 1, Poll: 1}), `frameworks.m.urls[0]: must not have a user or password: use username and password_file (got "http://<secret>@h")`},
		"no timeout":  {with(FrameworkConfig{Type: "chronos", URLs: ok.URLs, Poll: 1}), "frameworks.m.timeout: must be > 0 (got 0s)"},
		"half a user": {with(FrameworkConfig{Type: "chronos", URLs: ok.URLs, Username: "u", Timeout: 1, Poll: 1}), "frameworks.m.password_file: username and password_file must be given together"},
		"two ways": {
			with(FrameworkConfig{Type: "chronos", URLs: ok.URLs, Username: "u", PasswordFile: "/p", TokenFile: "/t", Timeout: 1, Poll: 1}),
			"frameworks.m: must have only one of",
		},
		"a name": {func(c *Config) { c.Frameworks = map[string]FrameworkConfig{"a b": ok} }, `frameworks: a name must be lower-case letters, digits, '.', '_' and '-' (got "a b")`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := Default()
			tt.change(&c)
			err := c.Validate()
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Fatalf("got  %v\nwant %s", err, tt.want)
			}
			if strings.Contains(err.Error(), "pw") {
				t.Errorf("a password is told: %v", err)
			}
			if n := strings.Count(err.Error(), "\n"); n > 0 {
				t.Errorf("one fault has %d problems:\n%v", n+1, err)
			}
		})
	}
}

func TestValidateJoinsAllProblems(t *testing.T) {
	t.Parallel()
	var c Config
	if n := strings.Count(c.Validate().Error(), "\n") + 1; n < 15 {
		t.Errorf("the empty configuration has only %d problems: %v", n, c.Validate())
	}
}

func TestShownConfigurationIsLoadedAgain(t *testing.T) {
	t.Parallel()
	c := Default()
	c.Engine.Images = map[string]string{"A/b:1": "/x"}
	c.Frameworks = map[string]FrameworkConfig{"m": {Type: "marathon", URLs: []string{"http://m"}, Username: "u", PasswordFile: "/p", Timeout: time.Second, Poll: time.Minute}}
	data, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(data, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	if diff := cmp.Diff(c, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s\n%s", diff, data)
	}
	c.Frameworks["m"] = FrameworkConfig{URLs: []string{"http://u:hunter2@m/%zz"}}
	c.Mesos.URL = "http://u:hunter2@m"
	if data, err = c.YAML(); err != nil || strings.Contains(string(data), "hunter2") || strings.Count(string(data), Masked) != 2 {
		t.Errorf("%v\n%s", err, data)
	}
}

func FuzzConfig(f *testing.F) {
	data, err := os.ReadFile("../docs/qosctl.yaml")
	if err != nil {
		f.Fatal(err)
	}
	var bare []byte // without its comments, most of the file: mutating them finds nothing
	for line := range bytes.Lines(data) {
		if before, _, _ := bytes.Cut(line, []byte("#")); len(bytes.TrimSpace(before)) > 0 {
			bare = append(append(bare, bytes.TrimRight(before, " \n")...), '\n')
		}
	}
	f.Add(bare)
	f.Add([]byte("frameworks: {m: {type: chronos, urls: [x], timeout: 1s}}\nengine: {images: {a: b}}"))
	f.Add([]byte("control: {period: 5}\n---\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data, nil)
		if err != nil || c.Validate() != nil {
			return
		}
		shown, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(shown, nil)
		if err != nil {
			t.Fatalf("what is shown isn't taken: %v\n%s", err, shown)
		}
		if diff := cmp.Diff(c, again, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s\n%s", diff, shown)
		}
	})
}

// A secret that stands where its hash, or its file, belongs is not repeated.
func TestFaultsOfTheConfigurationTellNoSecret(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-hunter2-hunter2"
	c := Default()
	c.Access.Tokens = map[string]TokenConfig{"a": {Hash: secret, Operator: true}}
	c.TokenFile, c.Cluster.KeyFile, c.TLS.KeyFile, c.Monasca.CredentialsFile, c.Mesos.MasterPasswordFile = secret, secret, secret, secret, secret
	c.Frameworks = map[string]FrameworkConfig{"m": {Type: "marathon", URLs: []string{"http://u:" + secret + "@h"}, PasswordFile: secret, TokenFile: secret, CredentialsFile: secret}}
	err := c.Validate()
	if err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("%v", err)
	}
	for _, key := range []string{"access.tokens.a.hash: ", "token_file: ", "cluster.key_file: ", "tls.key_file: ", "monasca.credentials_file: ", "frameworks.m.password_file: "} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("%s is not named: %v", key, err)
		}
	}
	c.TokenFile = "/etc//token"
	if err := c.Validate(); !strings.Contains(err.Error(), "/etc//token") {
		t.Errorf("a path is not shown: %v", err)
	}
}
