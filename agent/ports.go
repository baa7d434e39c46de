package agent

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"qosctl/framework"
	"qosctl/framework/chronos"
	"qosctl/framework/marathon"
	"qosctl/qos"
)

// defaultPoll is how often jobs are compared with their framework when no endpoint says.
const defaultPoll = 10 * time.Second

// openPorts makes a port for each kind of framework that is configured; of several endpoints of a kind the first by name serves.
func openPorts(cfg Config, m *metrics, log *slog.Logger) (map[qos.Framework]port, time.Duration, error) {
	ports, poll := map[qos.Framework]port{}, defaultPoll
	for _, name := range slices.Sorted(maps.Keys(cfg.Frameworks)) {
		f := cfg.Frameworks[name]
		kind := qos.Framework(f.Type)
		if ports[kind] != nil {
			log.Warn("more than one endpoint of a type; the first by name serves", "type", kind, "unused", name)
			continue
		}
		e, err := endpoint(name, f)
		if err != nil {
			return nil, 0, err
		}
		e.Observe = m.callsOf(string(kind))
		if f.Poll > 0 {
			poll = min(poll, f.Poll)
		}
		common := portCommon{command: cfg.Run.Command, socket: filepath.Join(cfg.RunDir, standinSocket), constraint: cfg.Run.Constraint}
		switch kind {
		case qos.Marathon:
			c, err := marathon.New(e, marathon.Options{Logger: log})
			if err != nil {
				return nil, 0, err
			}
			ports[kind] = &marathonPort{portCommon: common, client: c}
		case qos.Chronos:
			c, err := chronos.New(e, chronos.Options{Logger: log})
			if err != nil {
				return nil, 0, err
			}
			ports[kind] = &chronosPort{portCommon: common, client: c}
		default:
			return nil, 0, fmt.Errorf("frameworks.%s.type: %q is neither marathon nor chronos", name, f.Type)
		}
	}
	return ports, poll, nil
}

// portCommon is what preparing a job needs to know of this agent.
type portCommon struct{ command, socket, constraint string }

func endpoint(name string, f FrameworkConfig) (framework.Endpoint, error) {
	e := framework.Endpoint{
		Name: name, URLs: f.URLs, CAFile: f.CAFile, Username: f.Username, PasswordFile: f.PasswordFile, TokenFile: f.TokenFile, Timeout: f.Timeout,
	}
	if f.CredentialsFile == "" {
		return e, nil
	}
	c, err := framework.LoadCredentials(f.CredentialsFile)
	if err != nil {
		return e, fmt.Errorf("frameworks.%s.credentials_file: %w", name, err)
	}
	e.Username, e.Password = c.Username, c.Password
	if len(e.URLs) == 0 {
		e.URLs = c.URLs
	}
	return e, nil
}

// readToken reads the API's bearer token; "" without a file.
func readToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("token_file: %w", err)
	}
	t := strings.TrimSpace(string(b))
	if len(t) < 16 {
		return "", fmt.Errorf("token_file: %s holds less than 16 characters", path)
	}
	return t, nil
}
