package packaging_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"qosctl/agent"
)

// Every key that the page about moving names is one of the configuration.
func TestMovingNamesKeysThatAreThere(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/moving.md")
	if err != nil {
		t.Fatal(err)
	}
	keys := agent.Keys()
	seen := 0
	for _, m := range regexp.MustCompile("`((?:control|monasca|checkpoint)\\.[a-z_]+)").FindAllSubmatch(text, -1) {
		if seen++; keys[string(m[1])] == nil {
			t.Errorf("docs/moving.md names %s, which is no key", m[1])
		}
	}
	if seen < 10 {
		t.Errorf("only %d keys found", seen)
	}
	example := string(regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(text)[1])
	c, err := agent.Parse([]byte(strings.ReplaceAll("\n"+example, "\n   ", "\n")), nil)
	if err == nil {
		err = c.Validate()
	}
	if err != nil {
		t.Errorf("the example in docs/moving.md: %v", err)
	}
}
