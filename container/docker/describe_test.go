package docker

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	dcontainer "github.com/docker/docker/api/types/container"

	"qosctl/cgroup"
)

// TestAnEndThatNobodySaw tells what Docker says of a container that was gone when the machine was up again from a command's own 255.
func TestAnEndThatNobodySaw(t *testing.T) {
	t.Parallel()
	boot := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	proc := t.TempDir()
	if err := os.WriteFile(filepath.Join(proc, "stat"), fmt.Appendf(nil, "cpu  0 0 0 0 0 0 0 0 0 0\nbtime %d\n", boot.Unix()), 0o600); err != nil {
		t.Fatal(err)
	}
	e := &Engine{o: Options{Proc: proc}}
	for name, c := range map[string]struct {
		code              int
		started, finished time.Duration // after the boot
		want              bool
	}{
		"gone after a reboot":           {255, -time.Hour, time.Minute, true},
		"255 before the machine's end":  {255, -time.Hour, -time.Minute, false},
		"255 since the boot":            {255, time.Minute, time.Hour, false},
		"killed before the machine was": {137, -time.Hour, -time.Minute, false},
	} {
		got := e.exitOf(dcontainer.InspectResponse{ContainerJSONBase: &dcontainer.ContainerJSONBase{State: &dcontainer.State{
			ExitCode: c.code, StartedAt: boot.Add(c.started).Format(time.RFC3339Nano), FinishedAt: boot.Add(c.finished).Format(time.RFC3339Nano),
		}}}, cgroup.Group{})
		if got.Unknown != c.want || got.Code != c.code {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if e = (&Engine{o: Options{Proc: filepath.Join(proc, "none")}}); e.rebooted(&dcontainer.State{}) {
		t.Error("rebooted by a /proc that is not there")
	}
}
