package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"qosctl/agent/api"
	"qosctl/qos"
)

const (
	lookEvery  = 250 * time.Millisecond
	tableEvery = time.Second     // on a terminal
	lineEvery  = 5 * time.Second // elsewhere
	agentGone  = 20 * time.Second
	patience   = 2 // times the deadline: jobs that have not ended then are missed
)

// show submits the plan's jobs and shows what becomes of them.
type show struct {
	client    *api.Client
	plan      plan
	out       io.Writer
	shared    string   // directory that linpack reports to
	ids       []string // of the plan's jobs, in its order
	submitted time.Time
	drawn     int // lines of the table that stands on the terminal
	course    course
}

// submit hands all jobs in at once: a framework takes its time to answer, and their deadlines are to lie together.
func (s *show) submit(ctx context.Context) error {
	s.submitted = time.Now()
	s.ids = make([]string, len(s.plan.jobs))
	answers := make([]api.SubmitResponse, len(s.plan.jobs))
	var all errgroup.Group
	for i, j := range s.plan.jobs {
		file, err := j.jobFile(s.shared)
		if err != nil {
			return err
		}
		s.ids[i] = newID()
		all.Go(func() error {
			answer, err := s.client.Submit(ctx, api.SubmitRequest{ID: s.ids[i], File: file})
			if err != nil {
				return fmt.Errorf("submit %s: %w", j.file, err)
			}
			answers[i] = answer
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	for i, a := range answers {
		for _, w := range a.Warnings {
			if w.Path == "$.schedule" {
				continue // its period is not used, as in the thesis
			}
			fmt.Fprintf(s.out, "  %s: warning: %s: %s\n", s.plan.jobs[i].file, w.Path, w.Text)
		}
	}
	fmt.Fprintf(s.out, "submitted %d jobs\n\n", len(s.ids))
	return nil
}

// watch shows the jobs until all have ended, or have had more time than enough.
func (s *show) watch(ctx context.Context, d *dev, c *chaos) error {
	terminal := isTerminal(s.out)
	every := lineEvery
	if terminal {
		every = tableEvery
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var shown time.Time
	seen := time.Now()
	last := s.submitted.Add(time.Duration(patience * s.plan.seconds * float64(time.Second)))
	for {
		select {
		case <-ctx.Done():
			return errors.New("interrupted")
		case <-d.ended:
			return d.died()
		case <-look.C:
		}
		now := time.Now()
		if did := c.step(now.Sub(s.submitted)); did != "" {
			s.say(now, did)
		}
		jobs, err := s.jobs(ctx)
		switch {
		case err == nil:
			seen = now
			c.answered()
			s.course.note(now.Sub(s.submitted).Seconds(), jobs)
		case ctx.Err() != nil:
			continue
		case !errors.Is(err, api.ErrUnreachable) || now.Sub(seen) > agentGone:
			return fmt.Errorf("look at the jobs: %w", err)
		default: // the agent is on its way back
			continue
		}
		over := allEnded(jobs) || now.After(last)
		if over || now.Sub(shown) >= every {
			shown = now
			s.draw(now, jobs, terminal)
		}
		if over {
			return nil
		}
	}
}

// jobs asks for all jobs and returns them in the plan's order.
func (s *show) jobs(ctx context.Context) ([]api.Job, error) {
	all, err := s.client.Jobs(ctx, true)
	if err != nil {
		return nil, err
	}
	byID := map[string]api.Job{}
	for _, j := range all {
		byID[j.ID] = j
	}
	jobs := make([]api.Job, len(s.ids))
	for i, id := range s.ids {
		j, ok := byID[id]
		if !ok {
			return nil, fmt.Errorf("job %s (%s) is not known any more", id, s.plan.jobs[i].name())
		}
		jobs[i] = j
	}
	return jobs, nil
}

func ended(j api.Job) bool {
	return j.Phase == qos.PhaseCompleted || j.Phase == qos.PhaseFailed || j.Phase == qos.PhaseCancelled
}

func allEnded(jobs []api.Job) bool {
	for _, j := range jobs {
		if !ended(j) {
			return false
		}
	}
	return true
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// say prints a line that stays, above the table.
func (s *show) say(now time.Time, text string) {
	s.wipe()
	fmt.Fprintf(s.out, "%5.1f s  %s\n", now.Sub(s.submitted).Seconds(), text)
}

// wipe takes the table off the terminal.
func (s *show) wipe() {
	if s.drawn > 0 {
		fmt.Fprintf(s.out, "\x1b[%dA\x1b[J", s.drawn)
		s.drawn = 0
	}
}
