package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"qosctl/e2e/node"
	"qosctl/qos"
)

// TestNoSpaceLeft lets the disk fill up in the middle of a dump: the checks before it count bytes, and what runs out are inodes.
func TestNoSpaceLeft(t *testing.T) {
	s := startSiteOn(t, node.Options{Release: node.Forky}, `d=/var/lib/qosctl/checkpoints; mkdir -p $d && mount -t tmpfs -o size=300m,mode=700 tmpfs $d`)
	const n = 600
	id := s.submit(dockerApp("/full", counting(n)))
	s.running(id)
	s.sh(`mount -o remount,nr_inodes=$(( $(df --output=iused /var/lib/qosctl/checkpoints | tail -n 1) + 12 )) /var/lib/qosctl/checkpoints`)
	out, err := s.try("checkpoint", id, "--stop")
	if err == nil || !strings.Contains(strings.ToLower(out), "no space") {
		t.Errorf("got %q, %v", out, err)
	}
	s.running(id)
	if left := s.sh(`find /var/lib/qosctl/checkpoints -name '*.partial'`); left != "" {
		t.Errorf("left: %s", left)
	}
	if j := s.job(id); j.Account == nil || len(j.Account.Entries) != 1 {
		t.Errorf("after a dump without space: %+v", j)
	}
	s.sh(`mount -o remount,nr_inodes=100000 /var/lib/qosctl/checkpoints`)
	s.qosctl("checkpoint", id, "--stop")
	s.finished(id, n)
}

// TestCheckpointFaults takes away what a restore needs, and takes two checkpoints at once.
func TestCheckpointFaults(t *testing.T) {
	s := startSite(t, node.Forky)
	t.Run("two at once", func(t *testing.T) { s.as(t, s.twoAtOnce) })
	t.Run("by hand", func(t *testing.T) { s.as(t, s.byHand) })
	t.Run("image gone", func(t *testing.T) { s.as(t, s.imageGone) })
	t.Run("file missing", func(t *testing.T) {
		s.as(t, func() {
			s.withoutNewest("missing", "is missing", func(id, _ string) string { return fmt.Sprintf("rm %s/%s/2/images/core-1.img", s.checkpoints(), id) })
		})
	})
	t.Run("another job's manifest", func(t *testing.T) {
		s.as(t, func() {
			s.withoutNewest("foreign", "the manifest of", func(id, other string) string {
				return fmt.Sprintf("cp %[1]s/%[3]s/1/manifest.* %[1]s/%[2]s/2/", s.checkpoints(), id, other)
			})
		})
	})
}

// byHand restores a running job from a checkpoint that a person names: what it has done since is saved first, or thrown away with a word.
func (s *site) byHand() {
	id := s.submit(dockerApp("/hand", counting(100000)))
	s.running(id)
	s.qosctl("checkpoint", id, "--reason", "by hand")
	first := s.lines(id)
	s.running(id)
	s.until("sealed", 30*time.Second, func() bool { return !strings.Contains(s.qosctl("checkpoints", id), "not sealed") })
	if out := s.qosctl("checkpoints", id, "--verify"); !strings.Contains(out, "by hand") || !strings.Contains(out, "ok") {
		s.t.Errorf("checkpoints --verify:\n%s", out)
	}
	before := s.job(id)
	s.qosctl("restore", id, "--checkpoint", "1", "--discard")
	s.until("it runs again", time.Minute, func() bool {
		j := s.job(id)
		return j.Phase == qos.PhaseRunning && j.Epoch > before.Epoch && j.Allocation > 0
	})
	s.running2(id)
	after := s.job(id)
	if after.Consumed < before.Consumed || after.Consumed-after.Progress < 0.05 {
		s.t.Errorf("consumed %g, then %g, of which %g are progress: what was thrown away is still paid for", before.Consumed, after.Consumed, after.Progress)
	}
	out := strings.Fields(s.qosctl("logs", id, "--stream", "stdout"))
	again := 0 // where the output goes back to what the checkpoint had
	for i := 1; i < len(out) && again == 0; i++ {
		if n, err := strconv.Atoi(out[i]); err != nil || n != i+1 {
			again = n
		}
	}
	if again == 0 || again > first+1 {
		s.t.Errorf("it goes on with %d, the checkpoint was before %d", again, first)
	}
	if explained := s.qosctl("explain", id); !strings.Contains(explained, "from checkpoint 1 in") {
		s.t.Errorf("not explained:\n%s", explained)
	}
	s.qosctl("cancel", id)
	s.until("cancelled", 30*time.Second, func() bool { return s.job(id).Phase.Terminal() })
}

func (s *site) twoAtOnce() {
	const n = 400
	id := s.submit(dockerApp("/two", counting(n)))
	s.running(id)
	var wait sync.WaitGroup
	var outs [2]string
	var errs [2]error
	for i := range outs {
		wait.Go(func() { outs[i], errs[i] = s.try("checkpoint", id) })
	}
	wait.Wait()
	if errs[0] != nil && errs[1] != nil {
		s.t.Errorf("neither was taken: %s; %s", outs[0], outs[1])
	}
	for i, err := range errs {
		if e := (*exec.ExitError)(nil); errors.As(err, &e) && !strings.Contains(outs[i], "is being saved") {
			s.t.Errorf("refused with %q", outs[i])
		}
	}
	s.finished(id, n)
}

// suspend has Marathon stop a job, and waits for its checkpoint to be sealed; resume has it started again.
func (s *site) suspend(name, id string) {
	s.t.Helper()
	s.marathon(http.MethodPatch, "/v2/apps/"+name, `{"instances":0}`)
	s.until("suspended and sealed", 30*time.Second, func() bool {
		return s.job(id).Phase == qos.PhaseSuspended && !strings.Contains(s.qosctl("checkpoints", id), "not sealed")
	})
}

func (s *site) resume(name string) { s.marathon(http.MethodPatch, "/v2/apps/"+name, `{"instances":1}`) }

// imageGone: nobody can make a new container of it; the old one is still there, and goes on.
func (s *site) imageGone() {
	const n = 600
	id := s.submit(dockerApp("/gone", counting(n)))
	s.running(id)
	s.suspend("gone", id)
	s.sh("docker tag " + shell + " kept && docker rmi " + shell)
	s.resume("gone")
	s.until("it goes on in its old container", time.Minute, func() bool { j := s.job(id); return j.Phase == qos.PhaseRunning && j.Allocation > 0 })
	s.running(id)
	s.sh("docker tag kept " + shell)
	s.finished(id, n)
}

// withoutNewest spoils the newest of two checkpoints of a suspended job: it goes on from the older one, and says why.
func (s *site) withoutNewest(name, why string, spoil func(id, other string) string) {
	other := s.submit(dockerApp("/other-"+name, counting(3000)))
	id := s.submit(dockerApp("/"+name, counting(3000)))
	s.running(other)
	s.running(id)
	s.suspend("other-"+name, other)
	s.qosctl("checkpoint", id, "--reason", "the older one")
	s.running(id)
	s.suspend(name, id)
	s.sh(spoil(id, other))
	s.resume(name)
	s.until("it goes on from the older one", time.Minute, func() bool { j := s.job(id); return j.Phase == qos.PhaseRunning && j.Allocation > 0 })
	if explained := s.qosctl("explain", id); !strings.Contains(explained, "from checkpoint 1 in") || !strings.Contains(explained, why) {
		s.t.Errorf("not explained:\n%s", explained)
	}
	for _, j := range []string{id, other} {
		s.qosctl("cancel", j)
	}
	s.until("cancelled", 30*time.Second, func() bool { return s.job(id).Phase.Terminal() && s.job(other).Phase.Terminal() })
}
