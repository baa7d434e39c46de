package agent

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rights is the table of docs/security.md, from that of the test of all endpoints with all credentials.
func rights() string {
	var b strings.Builder
	for _, e := range endpoints {
		nobody, tenant := "yes", "no"
		if e.mutates {
			nobody = "no"
		}
		if e.open {
			nobody = "always"
		}
		switch {
		case e.tenant && strings.Contains(e.route, "/v1/jobs"):
			tenant = "its own"
		case e.tenant:
			tenant = "yes"
		}
		operator := "yes"
		if strings.Contains(e.route, " /v1/debug/") {
			nobody, operator = "no", "no: at the admin socket alone"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", e.route, nobody, tenant, operator)
	}
	b.WriteString("| the page: `/` and what it needs | yes | no | yes |\n")
	return b.String()
}

// The document says of each route who may; -update writes it.
func TestTheRoutesAreDocumented(t *testing.T) {
	t.Parallel()
	const path, head = "../docs/security.md", "| route | nobody | tenant | operator |\n|---|---|---|---|\n"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), head)
	table, after, ok2 := strings.Cut(rest, "\n\n")
	if !ok || !ok2 {
		t.Fatalf("%s has no table of routes", path)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+head+rights()+"\n"+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.TrimSuffix(rights(), "\n"), table); diff != "" {
		t.Errorf("%s (go test ./agent -run TheRoutes -update): %s", path, diff)
	}
}
