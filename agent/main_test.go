package agent

import (
	"os"
	"testing"

	"qosctl/container/process"
)

// TestMain lets the test binary stand in for qosctl as the shim of the process engine's containers.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "shim" {
		os.Exit(process.ShimMain(os.Args[2:]))
	}
	os.Exit(m.Run())
}
