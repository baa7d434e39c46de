package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"

	"qosctl/monasca"
)

// MaxConfig bounds a configuration file, in bytes.
const MaxConfig = 1 << 20

// keyDelimiter stands between the parts of a key inside viper only, so that names with dots (images, hosts) stay whole.
const keyDelimiter = "::"

// Default is the configuration of an agent that was told nothing.
func Default() Config {
	return Config{
		DataDir: "/var/lib/qosctl",
		RunDir:  "/run/qosctl",
		Listen:  "127.0.0.1:30000",
		Log:     LogConfig{Level: "info", Format: "text"},
		Cgroup:  CgroupConfig{Root: "/sys/fs/cgroup", Proc: "/proc", Parent: "/qosctl"},
		Engine:  EngineConfig{Docker: "unix:///var/run/docker.sock", MaxLogMB: 64},
		Checkpoint: CheckpointConfig{
			Driver: "auto", Keep: 2, Replicas: 1, DumpTime: time.Minute, RestoreTime: time.Minute, TCP: "refuse", Volumes: "refuse",
		},
		Control: ControlConfig{
			Mode:       "act",
			Policy:     "deadline",
			Period:     5 * time.Second,
			Sample:     time.Second,
			Dwell:      10 * time.Second,
			MinCPUs:    0.1,
			Increment:  0.4,
			Decrement:  0.4,
			StepPeriod: 2 * time.Minute,
			Borrow:     "idle",
			Placement:  placeByHints,
			Resize:     "auto", MoveTimeout: time.Minute,
			DeployTime: 45 * time.Second,
		},
		Run:   RunConfig{Command: "/usr/bin/qosctl", DetachGrace: 30 * time.Second, KillGrace: 10 * time.Second, Constraint: "qosctl"},
		Mesos: MesosConfig{URL: "http://127.0.0.1:5051", Poll: 5 * time.Second},
		Cluster: ClusterConfig{
			Label: "qosctl", Bind: ":7946", Peer: ":30001", Profile: "fast", Grace: 15 * time.Second, Fence: "none", ZooKeeperPath: "/qosctl",
		},
		Access: AccessConfig{Reads: readsOpen},
		Monasca: MonascaConfig{
			Interval: 30 * time.Second, Timeout: monasca.DefaultTimeout, SpoolMaxMB: monasca.DefaultMaxBytes >> 20, SpoolMaxAge: monasca.DefaultMaxAge,
		},
	}
}

// DefaultFramework has what a framework's block leaves out.
func DefaultFramework() FrameworkConfig {
	return FrameworkConfig{Timeout: 10 * time.Second, Poll: 10 * time.Second}
}

// Load reads the configuration: defaults, then the YAML file at path ("": none), then those of the environment's variables
// ("KEY=value") that name a key (QOSCTL_CONTROL_PERIOD is control.period), then settings ("control.period=2s").
// Unknown keys, values of the wrong kind and durations without a unit are errors. It doesn't validate.
func Load(path string, env []string, settings ...string) (Config, error) {
	var data []byte
	if path != "" {
		var err error
		if data, err = readConfig(path); err != nil {
			return Config{}, fmt.Errorf("read configuration: %w", err)
		}
	}
	c, err := Parse(data, env, settings...)
	if err != nil && path != "" {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, err
}

// Parse is Load for a file that was read already.
func Parse(data []byte, env []string, settings ...string) (Config, error) {
	v := viper.NewWithOptions(viper.KeyDelimiter(keyDelimiter))
	v.SetConfigType("yaml")
	if err := v.ReadConfig(bytes.NewReader(data)); err != nil {
		return Config{}, fmt.Errorf("not YAML: %w", errors.Unwrap(err))
	}
	named, err := readNames(data)
	if err != nil {
		return Config{}, err
	}
	overrides := make(map[string]string)
	for key := range Keys() {
		name := envName(key)
		for _, e := range env {
			if value, ok := strings.CutPrefix(e, name+"="); ok {
				overrides[key] = value
			}
		}
	}
	for _, s := range settings {
		key, value, ok := strings.Cut(s, "=")
		if _, known := Keys()[key]; !ok || !known {
			return Config{}, fmt.Errorf("setting %q must be KEY=VALUE, KEY one of %s", s, strings.Join(slices.Sorted(maps.Keys(Keys())), ", "))
		}
		overrides[key] = value
	}
	for key, text := range overrides {
		value, err := convert(Keys()[key], text)
		if err != nil {
			return Config{}, fmt.Errorf("%s: %w", key, err)
		}
		v.Set(strings.ReplaceAll(key, ".", keyDelimiter), value)
	}
	return decode(v, named)
}

// decode makes a Config of what viper has gathered, over the defaults.
func decode(v *viper.Viper, named names) (Config, error) {
	c := Default()
	if err := v.UnmarshalExact(&c, strict); err != nil {
		return Config{}, errors.New(plain(err))
	}
	if c.Control.DryRun && !v.IsSet("control"+keyDelimiter+"mode") {
		c.Control.Mode = modeAdvise
	}
	for name, f := range c.Frameworks {
		def := DefaultFramework()
		if !v.IsSet(strings.Join([]string{"frameworks", name, "timeout"}, keyDelimiter)) {
			f.Timeout = def.Timeout
		}
		if !v.IsSet(strings.Join([]string{"frameworks", name, "poll"}, keyDelimiter)) {
			f.Poll = def.Poll
		}
		c.Frameworks[name] = f
	}
	c.Engine.Images = named.Engine.Images // as written: viper makes keys lower case, and an image's tag may be upper case
	return c, nil
}

// strict makes decoding take only values of the right kind.
func strict(c *mapstructure.DecoderConfig) {
	c.WeaklyTypedInput = false
	c.DecodeHook = mapstructure.ComposeDecodeHookFunc(refuseBareDuration, refuseFraction, mapstructure.StringToTimeDurationHookFunc(), mapstructure.StringToSliceHookFunc(","))
}

// refuseBareDuration stops a number from being taken for nanoseconds.
func refuseBareDuration(from, to reflect.Type, data any) (any, error) {
	if to != reflect.TypeFor[time.Duration]() || from.Kind() == reflect.String || from == to {
		return data, nil
	}
	return nil, fmt.Errorf("duration %v needs a unit, as in \"5s\"", data)
}

// refuseFraction stops a fraction from being cut off without a word.
func refuseFraction(from, to reflect.Type, data any) (any, error) {
	if from.Kind() == reflect.Float64 && to.Kind() == reflect.Int {
		return nil, fmt.Errorf("%v is not a whole number", data)
	}
	return data, nil
}

// names are the parts of a file whose keys are names, spelt as they are written there.
type names struct {
	Engine struct {
		Images map[string]string `yaml:"images"`
	} `yaml:"engine"`
	Frameworks map[string]yaml.Node `yaml:"frameworks"`
	Access     struct {
		Tokens map[string]yaml.Node `yaml:"tokens"`
	} `yaml:"access"`
}

func readNames(data []byte) (names, error) {
	var n names
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&n); err != nil && !errors.Is(err, io.EOF) {
		return names{}, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return names{}, errors.New("more than one YAML document")
	}
	for name := range n.Frameworks {
		if name != strings.ToLower(name) {
			return names{}, fmt.Errorf("frameworks.%s: the name must be lower case", name)
		}
	}
	for name := range n.Access.Tokens {
		if name != strings.ToLower(name) {
			return names{}, fmt.Errorf("access.tokens.%s: the name must be lower case", name)
		}
	}
	return n, nil
}

// Keys are the keys of single values, with the type of each: what environment and --set can give.
func Keys() map[string]reflect.Type {
	keys := make(map[string]reflect.Type)
	collectKeys(keys, "", reflect.TypeFor[Config]())
	return keys
}

func collectKeys(keys map[string]reflect.Type, prefix string, t reflect.Type) {
	for f := range t.Fields() {
		key := prefix + f.Tag.Get("mapstructure")
		switch f.Type.Kind() {
		case reflect.Struct:
			collectKeys(keys, key+".", f.Type)
		case reflect.Map: // keys that are names come from the file only
		default:
			keys[key] = f.Type
		}
	}
}

// envName is the variable that sets a key: control.period is QOSCTL_CONTROL_PERIOD.
func envName(key string) string {
	return "QOSCTL_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// convert makes text a value of a key's type.
func convert(t reflect.Type, text string) (any, error) {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, fmt.Errorf("duration %q needs the form \"5s\" or \"1m30s\"", text)
		}
		return d, nil
	case t.Kind() == reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not a number", text)
		}
		return f, nil
	case t.Kind() == reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not a whole number", text)
		}
		return n, nil
	case t.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("%q is neither true nor false", text)
		}
		return b, nil
	}
	return text, nil
}

// plain is a decoding error in the form of our others: one problem a line, keys joined with dots.
func plain(err error) string {
	text := err.Error()
	if _, rest, ok := strings.Cut(text, "error(s):\n"); ok {
		text = rest
	}
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(strings.TrimSpace(l), "* ")
	}
	return strings.ReplaceAll(strings.Join(lines, "\n"), keyDelimiter, ".")
}

func readConfig(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxConfig+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxConfig {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, MaxConfig)
	}
	return data, nil
}
