package process

import (
	"os"
	"testing"
)

// TestMain lets the test binary be its own shim.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "shim" {
		os.Exit(ShimMain(os.Args[2:]))
	}
	if len(os.Args) > 2 && os.Args[1] == helperStage {
		os.Exit(helperMain(os.Args[2:]))
	}
	if len(os.Args) > 2 && os.Args[1] == dyingShim {
		os.Exit(dyingShimMain(os.Args[2], os.Args[3:]))
	}
	if os.Getenv(agentEnv) != "" {
		os.Exit(agentMain(os.Args[1:]))
	}
	os.Exit(m.Run())
}
