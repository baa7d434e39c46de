package agent

import (
	"context"
	"testing"
	"time"

	"qosctl/container"
	"qosctl/qos"
)

// unsealed brings a job to where its owner's machine has gone down with the job's checkpoint unsealed, and a steward has taken it over. had is
// the container that the checkpoint was taken of.
func (s *stage) unsealed() (had *simContainer, ok bool) {
	had, owner := s.box, s.owner
	s.mu.Lock()
	owner.sealing = make(chan struct{})
	s.master.still = true
	s.master.terminate(s.master.apps[s.job.name].task)
	s.mu.Unlock()
	put := func() bool {
		st := s.status(s.other())
		return st.Phase != qos.PhaseRunning && st.Saved != nil && st.Saved.CPU == had.kernel
	}
	if !s.until(time.Minute, "the others know that it is suspended", put) {
		return had, false
	}
	s.want(had.State == container.Exited && s.status(owner).Saved.Digest == "", "it is sealed")
	owner.down()
	taken := func() bool { return s.status(s.other()).Owner != owner.name }
	return had, s.until(3*time.Minute, "a steward has it", taken)
}

// back brings the owner's machine back. Its job is launched elsewhere as soon as that node sees it.
func (s *stage) back() {
	to := s.other()
	s.owner.reboot()
	s.until(time.Minute, "the owner is seen", func() bool {
		m, ok := to.agent.cluster.member(s.owner.name)
		return ok && m.State == "alive"
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.master.apps[s.job.name].hosts = []string{to.name}
	s.master.still = false
}

// goneOn checks that nothing of a container's work was lost.
func (s *stage) goneOn(had *simContainer) {
	if s.until(2*time.Minute, "it runs again", func() bool { return s.look(2) }) {
		s.want(s.box.node != had.node && s.box.base == had.kernel, "it goes on on %s from %v, not from %v", s.box.node, s.box.base, had.kernel)
		s.settle()
	}
}

// An owner that went down between a dump and its seal, and comes back while another node is about to go on from older ones: the dump is
// waited for.
func TestJepsenACheckpointThatItsOwnerSealsAfterItHasComeBack(t *testing.T) {
	scene(t, func(s *stage) {
		had, ok := s.unsealed()
		if !ok {
			return
		}
		sealing := s.owner.sealing
		s.back()
		pause(context.Background(), time.Minute)
		s.want(!s.look(2), "it runs from an older checkpoint, while its newest is being sealed")
		close(sealing)
		s.goneOn(had)
	})
}

// The same while its owner does not know yet itself what it has.
func TestJepsenACheckpointThatItsOwnerIsStillFindingOut(t *testing.T) {
	scene(t, func(s *stage) {
		had, ok := s.unsealed()
		if !ok {
			return
		}
		recovering := make(chan struct{})
		s.mu.Lock()
		s.owner.recovering = recovering
		s.mu.Unlock()
		close(s.owner.sealing)
		s.back()
		pause(context.Background(), time.Minute)
		s.want(!s.look(2), "it runs from an older checkpoint, before its owner has found out what it has")
		close(recovering)
		s.goneOn(had)
	})
}

// One that was given up is not waited for.
func TestJepsenACheckpointThatItsOwnerGoesDownWithForGood(t *testing.T) {
	scene(t, func(s *stage) {
		had, ok := s.unsealed()
		if !ok {
			return
		}
		s.back()
		pause(context.Background(), time.Minute)
		s.owner.down()
		if s.until(3*time.Minute, "it runs again", func() bool { return s.look(2) }) {
			s.want(s.box.base > 0 && s.box.base < had.kernel, "it goes on from %v", s.box.base)
		}
	})
}
