package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"qosctl/cgroup"
	"qosctl/container"
)

// The stages that ShimMain knows.
const (
	stageRun  = "run"  // the shim: starts and watches a container's payload
	stageInit = "init" // the payload, before it becomes the job's command
)

// Descriptors that a shim inherits beside its standard ones, and that its init stage does.
const (
	replyFD = 3 // run: reply, JSON. init: fault, JSON, closed by a successful exec
	goFD    = 4 // init: a socket; it sends a byte when it is ready, and gets one when pid.json is written and the command may run
)

// ShimMain is the process behind a container: `qosctl shim run DIR`, and inside of it `qosctl shim init DIR`. args are the last ones
// of os.Args. It returns the exit code of the process. Nobody but the engine calls it.
func ShimMain(args []string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if len(args) != 2 || len(os.Args) < len(args) {
		log.Error("usage: shim run DIR | shim init DIR: the agent starts this, not a person")
		return 2
	}
	switch dir := args[1]; args[0] {
	case stageRun:
		self := append([]string{"qosctl"}, os.Args[1:len(os.Args)-len(args)]...)
		return (&shim{dir: dir, self: self, log: log}).main()
	case stageInit:
		return initMain(dir)
	}
	log.Error("no such stage", "stage", args[0])
	return 2
}

// shim is one container's shim process.
type shim struct {
	dir  string
	self []string // argv that starts this binary with ShimMain's arguments to follow
	conf config
	cg   *cgroup.FS
	log  *slog.Logger
	lock *os.File // held as long as the shim lives
	oom  uint64   // processes killed for memory before the payload ran
	run  running
}

// main runs a container from its start to its end.
func (s *shim) main() int {
	if err := closeInherited(replyFD); err != nil {
		s.log.Warn("close what was inherited", "err", err)
	}
	// Taken and dropped, not ignored: what is ignored would stay so in the payload. Stopping the agent must not stop its jobs.
	drop := make(chan os.Signal, 1)
	signal.Notify(drop, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE, unix.SIGUSR1, unix.SIGUSR2)
	answer := os.NewFile(replyFD, "reply")

	var end *container.Exit // to be written yet
	started, err := s.claim()
	if err == nil {
		if err = s.start(); err != nil {
			x := s.failed(err)
			end = &x
		}
	}
	rep := reply{Started: started}
	if err != nil {
		rep.Error = err.Error()
	}
	if end != nil && s.tryExit(*end) == nil { // first, if it can be: who hears of it finds it
		end = nil
	}
	if aerr := errors.Join(json.NewEncoder(answer).Encode(rep), answer.Close()); aerr != nil {
		s.log.Info("nobody hears the shim", "err", aerr) // the agent was killed meanwhile: the container runs all the same
	}
	switch {
	case end != nil:
		s.writeExit(*end)
	case err == nil:
		s.watch()
		return 0
	}
	return 1
}

// claim makes this the one shim that ever runs the container. started: another one did before.
func (s *shim) claim() (started bool, err error) {
	if s.lock, err = os.OpenFile(filepath.Join(s.dir, lockName), os.O_RDWR, 0); err != nil {
		return false, fmt.Errorf("lock: %w", err)
	}
	l := unix.Flock_t{Type: unix.F_WRLCK}
	err = unix.FcntlFlock(s.lock.Fd(), unix.F_SETLK, &l)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return true, errors.New("another shim runs it")
	}
	if err != nil {
		return false, fmt.Errorf("lock: %w", err)
	}
	if err = readFile(s.dir, configName, &s.conf); err != nil {
		return false, err
	}
	f, err := os.OpenFile(filepath.Join(s.dir, startedName), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return true, errors.New("it was started before")
	}
	if err != nil {
		return false, err
	}
	return false, errors.Join(f.Close(), syncDir(s.dir))
}

// start runs the payload up to its exec.
func (s *shim) start() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	var err error
	if s.cg, err = cgroup.New(cgroup.Options{Root: s.conf.CgroupRoot, Proc: s.conf.Proc, Logger: s.log}); err != nil {
		return err
	}
	if s.oom, err = s.cg.OOMKills(s.conf.Cgroup); err != nil {
		s.log.Warn("read count of memory kills", "err", err)
	}
	return s.launch()
}

// note fills in what pid.json says.
func (s *shim) note(pid int) error {
	p := procTable{s.conf.Proc, new(ends)}
	var err error
	if s.run.identity, err = p.identify(pid); err != nil {
		return err
	}
	if s.run.Shim, err = p.identify(os.Getpid()); err != nil {
		return err
	}
	if s.run.Boot, err = p.boot(); err != nil {
		return err
	}
	s.run.Group = cgroup.Group{CPU: s.conf.Cgroup, CPUAcct: s.conf.Cgroup}
	s.run.Cgroup, s.run.Started = s.conf.Cgroup, time.Now()
	return writeFile(s.dir, pidName, s.run)
}

// failed is the end of a container whose command never ran.
func (s *shim) failed(err error) container.Exit {
	s.log.Error("start", "err", err)
	x := container.Exit{Code: container.CodeSetup, Finished: time.Now(), Reason: err.Error()}
	if f, ok := errors.AsType[*fault](err); ok {
		x.Code = f.Code
	}
	return s.finish(x)
}

// watch reaps the payload and all orphans of it, and when the payload ends writes the container's end.
func (s *shim) watch() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.trim(ctx) })
	wg.Go(func() { s.callIn(ctx) })
	x := s.reapPayload()
	cancel()
	wg.Wait()
	s.writeExit(s.finish(x))
}

// reapPayload waits for every process that becomes a child of the shim until the payload has ended.
func (s *shim) reapPayload() container.Exit {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil: // it has no child any more, and never saw the payload end
			return container.Exit{Code: container.CodeUnknown, Unknown: true, Finished: time.Now(), Reason: "its shim lost it: " + err.Error()}
		case pid == s.run.PID && ws.Signaled():
			return container.Exit{Code: 128 + int(ws.Signal()), Signal: int(ws.Signal()), Finished: time.Now()}
		case pid == s.run.PID && ws.Exited():
			return container.Exit{Code: ws.ExitStatus(), Finished: time.Now()}
		}
	}
}

// killTime bounds how long the leftovers of a container may take to die. One that sleeps uninterruptibly, on a dead NFS server, may take for ever.
const killTime = time.Minute

// finish kills what is left, and reads the counters for the last time.
func (s *shim) finish(x container.Exit) container.Exit {
	if s.cg != nil {
		ctx, cancel := context.WithTimeout(context.Background(), killTime)
		defer cancel()
		if err := s.cg.Kill(ctx, s.conf.Cgroup); err != nil {
			s.log.Error("kill what is left", "err", err)
			x.Reason = "processes are left: " + err.Error()
		}
		x.CPU = lastUsage(s.cg, cgroup.Group{CPU: s.conf.Cgroup, CPUAcct: s.conf.Cgroup})
		if n, err := s.cg.OOMKills(s.conf.Cgroup); err == nil && n > s.oom {
			x.OOM = true
		}
	}
	return x
}

// tryExit writes exit.json, if nobody has.
func (s *shim) tryExit(x container.Exit) error {
	err := writeOnce(s.dir, exitName, x)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// giveUp is how long a shim tries to write an exit status to a full disk; afterwards its container's end is unknown.
const giveUp = time.Hour

// writeExit writes exit.json. The disk may be full: the shim is all that knows the exit status, so it keeps trying for a while.
func (s *shim) writeExit(x container.Exit) {
	begin := time.Now()
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 10*time.Second) {
		err := s.tryExit(x)
		if err == nil {
			return
		}
		if !exists(s.dir) || time.Since(begin) > giveUp {
			s.log.Error("write the container's end", "err", err)
			return
		}
		<-time.After(pause)
	}
}

// closeInherited closes all descriptors above last that were not opened by this process: those lack close-on-exec.
func closeInherited(last int) error {
	ents, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, d := range ents {
		fd, err := strconv.Atoi(d.Name())
		if err != nil || fd <= last {
			continue
		}
		if fl, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && fl&unix.FD_CLOEXEC == 0 {
			if err = unix.Close(fd); err != nil {
				return err
			}
		}
	}
	unix.CloseOnExec(last)
	return nil
}
