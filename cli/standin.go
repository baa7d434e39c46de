package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"qosctl/agent/api"
)

// The verdicts of a claim.
const (
	verdictRun  = "run"
	verdictIdle = "idle"
	verdictDone = "done"
)

// standinClient is what a stand-in asks of the agent.
type standinClient interface {
	Claim(ctx context.Context, c api.Claim) (api.ClaimResponse, error)
	Stop(ctx context.Context, s api.Stop) error
	Output(ctx context.Context, task, cursor string) (*api.OutputStream, error)
}

// standin is a task that stands for a job's container.
type standin struct {
	client   standinClient
	opts     runOpts
	out, err io.Writer
	cursor   string      // behind what has been written out
	claimed  atomic.Bool // a claim may have reached the agent
	mute     map[string]bool
	pause    func() *backoff
}

func newStandin(client standinClient, o runOpts, out, err io.Writer) *standin {
	return &standin{
		client: client, opts: o, out: out, err: err, mute: make(map[string]bool),
		pause: func() *backoff { return newBackoff(100*time.Millisecond, 3*time.Second) },
	}
}

// run claims the job, streams its output and returns its exit code. The first signal has the agent stop the job's container;
// those that follow change nothing, as Mesos repeats them.
func (s *standin) run(ctx context.Context, signals <-chan os.Signal) (int, error) {
	claiming, stopClaiming := context.WithCancel(ctx)
	defer stopClaiming()
	running, stopRunning := context.WithCancel(ctx)
	defer stopRunning()
	told := make(chan syscall.Signal, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case sig := <-signals:
			number, ok := sig.(syscall.Signal)
			if !ok {
				number = syscall.SIGTERM
			}
			told <- number
			stopClaiming()
		case <-running.Done():
		}
	})
	defer wg.Wait()
	defer stopRunning()

	answer, err := s.claim(claiming)
	if errors.Is(err, context.Canceled) && ctx.Err() == nil {
		return s.stopBeforeRunning(ctx, <-told)
	}
	if err != nil {
		return exitCodeOf(err), err
	}
	switch answer.Verdict {
	case verdictRun:
	case verdictIdle:
		s.say("%s; waiting to be stopped", orElse(answer.Reason, "the job is complete"))
		select {
		case <-told:
			return exitOK, nil
		case <-ctx.Done():
			return exitError, ctx.Err()
		}
	case verdictDone:
		s.say("%s", orElse(answer.Reason, "this task has run already"))
		return answer.Code, nil
	default:
		return exitError, fmt.Errorf("the agent answered the claim with %q, which this version doesn't know", answer.Verdict)
	}
	wg.Go(func() {
		select {
		case sig := <-told:
			_ = s.tellStop(running, sig) // a refusal is said there; the exit code still comes
		case <-running.Done():
		}
	})
	return s.stream(ctx)
}

// claim asks until it is answered.
func (s *standin) claim(ctx context.Context) (api.ClaimResponse, error) {
	again := s.pause()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { s.claimed.Store(true) }})
	for {
		answer, err := s.client.Claim(ctx, s.opts.claim)
		if err == nil || ctx.Err() != nil || !worthRepeating(err) {
			if err != nil && ctx.Err() != nil {
				err = ctx.Err()
			}
			return answer, err
		}
		if again.elapsed() == 0 {
			s.say("%v; trying again until it answers", err)
		}
		if err := again.wait(ctx); err != nil {
			return answer, err
		}
	}
}

// stopBeforeRunning ends a stand-in that was told to stop before its claim was answered. The agent may have got the claim all the same.
func (s *standin) stopBeforeRunning(ctx context.Context, sig syscall.Signal) (int, error) {
	if !s.claimed.Load() {
		return 128 + int(sig), nil // nothing was started for this task
	}
	if err := s.tellStop(ctx, sig); err != nil {
		return 128 + int(sig), nil // the agent has no claim of this task
	}
	return s.stream(ctx)
}

// tellStop tells the agent until it has understood. An error is the agent's refusal.
func (s *standin) tellStop(ctx context.Context, sig syscall.Signal) error {
	again := s.pause()
	for {
		err := s.client.Stop(ctx, api.Stop{Task: s.opts.task, Signal: int(sig)})
		switch {
		case err == nil || ctx.Err() != nil:
			return nil
		case !worthRepeating(err):
			s.say("the agent refuses to stop the job: %v", err)
			return err
		}
		if again.wait(ctx) != nil {
			return nil
		}
	}
}

// stream writes the job's output out, from one agent to the next, until its exit code comes.
func (s *standin) stream(ctx context.Context) (int, error) {
	again := s.pause()
	claimed := false // again, without any output since
	for {
		before := s.cursor
		exit, err := s.streamOnce(ctx, again)
		claimed = claimed && s.cursor == before
		switch {
		case exit == nil && ctx.Err() == nil && forgotten(err) && !claimed:
			claimed = true
			if code, done := s.claimAgain(ctx); done {
				return code, nil
			}
			continue
		case exit != nil:
			if exit.Reason != "" {
				s.say("%s", exit.Reason)
			}
			return *exit.Exit, nil
		case ctx.Err() != nil:
			return exitError, ctx.Err()
		case err != nil && !worthRepeating(err):
			return max(exitError, exitCodeOf(err)), err
		case err != nil && again.elapsed() == 0:
			s.say("%v; the job runs on, attaching again", err)
		}
		if err := again.wait(ctx); err != nil {
			return exitError, err
		}
	}
}

// claimAgain brings the job to an agent that has lost its store; the job's spec is in our environment. done: there is nothing to stream.
func (s *standin) claimAgain(ctx context.Context) (code int, done bool) {
	s.say("the agent has forgotten the job, claiming it again")
	answer, err := s.claim(ctx)
	if err != nil {
		s.say("%v", err)
	}
	return answer.Code, err == nil && answer.Verdict == verdictDone
}

// forgotten says whether the agent does not know the job, or this task of it, any more.
func forgotten(err error) bool {
	e, ok := errors.AsType[*api.StatusError](err)
	return ok && (e.Body.Status == http.StatusForbidden || e.Body.Status == http.StatusNotFound)
}

// streamOnce writes one stream out. It returns the line with the exit code, nil if the stream ended without.
func (s *standin) streamOnce(ctx context.Context, again *backoff) (*api.Output, error) {
	stream, err := s.client.Output(ctx, s.opts.task, s.cursor)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	for {
		line, err := stream.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil, nil //nolint:nilnil // the agent ended the stream: it is asked again
		}
		if err != nil {
			return nil, err
		}
		again.reset()
		s.write(line)
		if line.Cursor != "" {
			s.cursor = line.Cursor
		}
		if line.Exit != nil {
			return &line, nil
		}
	}
}

// write prints one line's data whole. An output that can't be written is given up, aloud: the exit code is worth more.
func (s *standin) write(line api.Output) {
	w := s.out
	if line.Stream == "stderr" {
		w = s.err
	}
	if len(line.Data) == 0 || s.mute[line.Stream] {
		return
	}
	if _, err := w.Write(line.Data); err != nil {
		s.mute[line.Stream] = true
		s.say("the job's %s can't be written any more: %v", line.Stream, err)
	}
}

// say notes something in the task's standard error, which is its log.
func (s *standin) say(format string, values ...any) {
	fmt.Fprintf(s.err, "qosctl run: "+format+"\n", values...)
}

// worthRepeating says whether the agent may answer otherwise next time: it is away, starting, overloaded, or busy with this very job.
func worthRepeating(err error) bool {
	if errors.Is(err, api.ErrUnreachable) {
		return true
	}
	e, ok := errors.AsType[*api.StatusError](err)
	return ok && (e.Body.Status >= http.StatusInternalServerError || e.Body.Status == http.StatusTooManyRequests ||
		e.Body.Status == http.StatusConflict || e.Body.Status == http.StatusRequestTimeout)
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
