package agent

import (
	"strings"
	"testing"
)

// The old protocol is open to nobody unless it is said to whom, and it needs what its jobs are known by.
func TestTheOldProtocolMustSayToWhom(t *testing.T) {
	t.Parallel()
	good := func() Config {
		c := Default()
		c.Frameworks = map[string]FrameworkConfig{"m": {Type: "marathon", URLs: []string{"http://m"}, Timeout: 1, Poll: 1}}
		c.Thesis = ThesisConfig{Enabled: true, From: []string{"10.0.0.0/8", "192.168.1.7", "fd00::/8"}}
		return c
	}
	if c := good(); c.Validate() != nil || len(c.Notes()) != 1 || !strings.Contains(c.Notes()[0], "10.0.0.0/8, 192.168.1.7") {
		t.Errorf("%v, notes %q", c.Validate(), c.Notes())
	}
	if c := Default(); c.Thesis.Enabled || c.Notes() != nil {
		t.Errorf("it is on by default: %q", c.Notes())
	}
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"nobody":        {func(c *Config) { c.Thesis.From = nil }, "thesis.from: must name the networks"},
		"no network":    {func(c *Config) { c.Thesis.From = []string{"10.0.0.0/8", "lab"} }, `thesis.from: must be networks or addresses, as 10.0.0.0/8 or 10.0.0.7 (got "lab")`},
		"no mask":       {func(c *Config) { c.Thesis.From = []string{"10.0.0.0/33"} }, "thesis.from: must be networks"},
		"no address":    {func(c *Config) { c.Listen = "" }, "thesis.enabled: needs `listen`"},
		"no Mesos":      {func(c *Config) { c.Mesos.URL = "" }, "thesis.enabled: needs `mesos.url`"},
		"no frameworks": {func(c *Config) { c.Frameworks = nil }, "thesis.enabled: needs `frameworks`"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := good()
			tt.change(&c)
			if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
