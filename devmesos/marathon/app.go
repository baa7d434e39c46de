package marathon

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
)

// App is an app definition, as a whole or as an update: a nil field of an update is left as it is. JSON names and meaning are
// those of Marathon's RAML (app.raml); what is not declared here is dropped on reading, as Marathon does.
type App struct {
	ID                         string                     `json:"id,omitempty"`
	Cmd                        *string                    `json:"cmd,omitempty"`
	Args                       []string                   `json:"args,omitempty"`
	User                       *string                    `json:"user,omitempty"`
	Env                        map[string]json.RawMessage `json:"env,omitempty"` // text, or {"secret": name}
	Instances                  *int                       `json:"instances,omitempty"`
	CPUs                       *float64                   `json:"cpus,omitempty"`
	Mem                        *float64                   `json:"mem,omitempty"` // MiB
	Disk                       *float64                   `json:"disk,omitempty"`
	GPUs                       *int                       `json:"gpus,omitempty"`
	Executor                   *string                    `json:"executor,omitempty"`
	Constraints                [][]string                 `json:"constraints,omitempty"`
	Fetch                      []json.RawMessage          `json:"fetch,omitempty"`
	URIs                       []string                   `json:"uris,omitempty"`  // deprecated: becomes Fetch
	Ports                      []int                      `json:"ports,omitempty"` // deprecated: becomes PortDefinitions
	PortDefinitions            []PortDefinition           `json:"portDefinitions,omitempty"`
	RequirePorts               *bool                      `json:"requirePorts,omitempty"`
	BackoffSeconds             *int                       `json:"backoffSeconds,omitempty"`
	BackoffFactor              *float64                   `json:"backoffFactor,omitempty"`
	MaxLaunchDelaySeconds      *int                       `json:"maxLaunchDelaySeconds,omitempty"`
	Container                  *Container                 `json:"container,omitempty"`
	Networks                   []Network                  `json:"networks,omitempty"`
	HealthChecks               []json.RawMessage          `json:"healthChecks,omitempty"` // kept, never run: a running task counts as healthy
	ReadinessChecks            []json.RawMessage          `json:"readinessChecks,omitempty"`
	Check                      json.RawMessage            `json:"check,omitempty"`
	Dependencies               []string                   `json:"dependencies,omitempty"`
	UpgradeStrategy            *UpgradeStrategy           `json:"upgradeStrategy,omitempty"`
	Labels                     map[string]string          `json:"labels,omitempty"`
	AcceptedResourceRoles      []string                   `json:"acceptedResourceRoles,omitempty"`
	Residency                  json.RawMessage            `json:"residency,omitempty"`
	Secrets                    map[string]json.RawMessage `json:"secrets,omitempty"`
	TaskKillGracePeriodSeconds *int                       `json:"taskKillGracePeriodSeconds,omitempty"`
	UnreachableStrategy        *Unreachable               `json:"unreachableStrategy,omitempty"`
	KillSelection              *string                    `json:"killSelection,omitempty"`
	TTY                        *bool                      `json:"tty,omitempty"`
	Role                       *string                    `json:"role,omitempty"`
	ResourceLimits             json.RawMessage            `json:"resourceLimits,omitempty"`
	Version                    *string                    `json:"version,omitempty"`
	VersionInfo                *VersionInfo               `json:"versionInfo,omitempty"`
}

// UpgradeStrategy bounds how many instances are killed and started at once by a restart; both are shares of the instances.
type UpgradeStrategy struct {
	MinimumHealthCapacity float64 `json:"minimumHealthCapacity"`
	MaximumOverCapacity   float64 `json:"maximumOverCapacity"`
}

// UnmarshalJSON gives absent members their defaults of 1.0.
func (u *UpgradeStrategy) UnmarshalJSON(b []byte) error {
	type plain UpgradeStrategy
	p := plain{MinimumHealthCapacity: 1, MaximumOverCapacity: 1}
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	*u = UpgradeStrategy(p)
	return nil
}

// Unreachable is an unreachableStrategy: "disabled", or two delays in seconds.
type Unreachable struct {
	Disabled             bool
	InactiveAfterSeconds int
	ExpungeAfterSeconds  int
}

type unreachableSeconds struct {
	Inactive *int `json:"inactiveAfterSeconds"`
	Expunge  *int `json:"expungeAfterSeconds"`
}

// UnmarshalJSON reads both shapes.
func (u *Unreachable) UnmarshalJSON(b []byte) error {
	if bytes.Equal(bytes.TrimSpace(b), []byte(`"disabled"`)) {
		*u = Unreachable{Disabled: true}
		return nil
	}
	var s unreachableSeconds
	if err := json.Unmarshal(b, &s); err != nil {
		return &json.UnmarshalTypeError{Value: "text", Type: reflect.TypeFor[unreachableSeconds](), Field: "unreachableStrategy"}
	}
	*u = Unreachable{}
	if s.Inactive != nil {
		u.InactiveAfterSeconds = *s.Inactive
	}
	if s.Expunge != nil {
		u.ExpungeAfterSeconds = *s.Expunge
	}
	return nil
}

// MarshalJSON writes the shape that fits.
func (u Unreachable) MarshalJSON() ([]byte, error) {
	if u.Disabled {
		return []byte(`"disabled"`), nil
	}
	return json.Marshal(unreachableSeconds{Inactive: &u.InactiveAfterSeconds, Expunge: &u.ExpungeAfterSeconds})
}

// PortDefinition is a port of the host; 0 lets Marathon choose.
type PortDefinition struct {
	Port     int               `json:"port"`
	Protocol string            `json:"protocol,omitempty"`
	Name     string            `json:"name,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
}

// Network is one of an app's networks (1.5 and newer).
type Network struct {
	Mode   string            `json:"mode,omitempty"` // host, container, container/bridge
	Name   string            `json:"name,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
}

// Container is an app's container, of the old or the new shape.
type Container struct {
	Type         string            `json:"type,omitempty"` // MESOS or DOCKER
	Docker       *Docker           `json:"docker,omitempty"`
	Volumes      []json.RawMessage `json:"volumes,omitempty"`
	PortMappings []PortMapping     `json:"portMappings,omitempty"`
	LinuxInfo    json.RawMessage   `json:"linuxInfo,omitempty"`
}

// Docker is what a container's image is.
type Docker struct {
	Image          string            `json:"image,omitempty"`
	Network        string            `json:"network,omitempty"`      // ≤ 1.4
	PortMappings   []PortMapping     `json:"portMappings,omitempty"` // ≤ 1.4
	Parameters     []Parameter       `json:"parameters,omitempty"`
	Privileged     *bool             `json:"privileged,omitempty"`
	ForcePullImage *bool             `json:"forcePullImage,omitempty"`
	PullConfig     json.RawMessage   `json:"pullConfig,omitempty"`
	Credential     map[string]string `json:"credential,omitempty"`
}

// Parameter is an option of docker run.
type Parameter struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// PortMapping maps a port of the container to one of the host.
type PortMapping struct {
	ContainerPort int               `json:"containerPort"`
	HostPort      *int              `json:"hostPort,omitempty"`
	ServicePort   int               `json:"servicePort,omitempty"`
	Protocol      string            `json:"protocol,omitempty"`
	Name          string            `json:"name,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
}

// VersionInfo says when an app was last changed.
type VersionInfo struct {
	LastScalingAt      string `json:"lastScalingAt"`
	LastConfigChangeAt string `json:"lastConfigChangeAt"`
}

// image is the container image an app runs in; "" is none.
func (a *App) image() string {
	if a.Container == nil || a.Container.Docker == nil {
		return ""
	}
	return a.Container.Docker.Image
}

// clone copies an app deeply.
func (a *App) clone() *App {
	b, err := json.Marshal(a)
	if err != nil {
		panic("app does not encode: " + err.Error()) // only valid JSON is ever stored in raw fields
	}
	c := &App{}
	if err := json.Unmarshal(b, c); err != nil {
		panic("app does not decode: " + err.Error())
	}
	return c
}

// merge lays the fields that an update has over an app.
func (a *App) merge(update *App) {
	to, from := reflect.ValueOf(a).Elem(), reflect.ValueOf(update).Elem()
	for i := range from.NumField() {
		if f := from.Field(i); f.Kind() != reflect.String && !f.IsNil() {
			to.Field(i).Set(f)
		}
	}
}

// sameConfig says whether two definitions differ in instances and versions at most, so that no task has to be restarted.
func sameConfig(a, b *App) bool {
	strip := func(x *App) []byte {
		c := x.clone()
		c.Instances, c.Version, c.VersionInfo = nil, nil, nil
		out, _ := json.Marshal(c) // it was just decoded from JSON
		return out
	}
	return bytes.Equal(strip(a), strip(b))
}

// envText is the text of an env value; false for one that names a secret.
func envText(raw json.RawMessage) (string, bool) {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return "", false
	}
	return s, true
}

// orElse is *p, or a default where p is nil.
func orElse[T any](p *T, def T) T {
	if p == nil {
		return def
	}
	return *p
}

// canonical gives an ID its leading slash.
func canonical(id string) string {
	return "/" + strings.Trim(id, "/")
}
