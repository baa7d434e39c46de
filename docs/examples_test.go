package docs_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"qosctl/agent"
)

// Each block of JSON or YAML in a page can be read, and one that is a part of the agent's configuration is taken by it.
func TestExamplesInThePages(t *testing.T) {
	t.Parallel()
	var top []string
	for f := range reflect.TypeFor[agent.Config]().Fields() {
		top = append(top, f.Tag.Get("mapstructure"))
	}
	taken := 0
	for _, p := range pages(t) {
		blocks, _ := p.blocks(t)
		for _, b := range blocks {
			text := strings.Join(b.lines, "\n")
			switch b.language {
			case "json":
				if !json.Valid([]byte(text)) && !json.Valid([]byte("{"+text+"}")) { // a member of an object
					t.Errorf("%s:%d: no JSON", p.name, b.line)
				}
			case "yaml":
				var v any
				if err := yaml.Unmarshal([]byte(text), &v); err != nil {
					t.Errorf("%s:%d: no YAML: %v", p.name, b.line, err)
				}
				m, ok := v.(map[string]any)
				for k := range m {
					ok = ok && slices.Contains(top, k)
				}
				if !ok {
					continue
				}
				taken++
				c, err := agent.Parse([]byte(text), nil)
				if err == nil {
					err = c.Validate()
				}
				if err != nil {
					t.Errorf("%s:%d: %v", p.name, b.line, err)
				}
			}
		}
	}
	if taken < 3 {
		t.Errorf("only %d configurations found", taken)
	}
}
