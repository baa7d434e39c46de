package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"qosctl/agent/api"
	"qosctl/qos"
)

// readJobFile reads a job file, or standard input for "-", and as much more than is allowed as shows that it is too long.
func (a *app) readJobFile(path string) ([]byte, error) {
	r := a.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, &exitStatus{exitInvalid, fmt.Errorf("read job file: %w", err)}
		}
		defer f.Close()
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, qos.MaxFileSize+1))
	if err != nil {
		return nil, &exitStatus{exitInvalid, fmt.Errorf("read job file %s: %w", path, err)}
	}
	return data, nil
}

// parseJobFile reads and checks a job file without an agent.
func (a *app) parseJobFile(path string) (qos.Spec, []byte, []qos.Warning, error) {
	data, err := a.readJobFile(path)
	if err != nil {
		return qos.Spec{}, nil, nil, err
	}
	name := path
	if path == "-" {
		name = "standard input"
	}
	spec, warnings, err := qos.Parse(data, qos.ParseOptions{Now: time.Now(), File: name})
	return spec, data, warnings, err
}

// warn prints warnings of a job file.
func warn(w io.Writer, warnings []qos.Warning) {
	for _, text := range warnings {
		fmt.Fprintf(w, "warning: %s\n", text)
	}
}

// problemsError is what a command that takes one job file returns for a bad one.
func problemsError(err error) error {
	p, ok := errors.AsType[qos.Problems](err)
	if !ok {
		return err
	}
	count := "a problem"
	if len(p) > 1 {
		count = fmt.Sprintf("%d problems", len(p))
	}
	return &exitStatus{exitInvalid, withHint(fmt.Errorf("the job file has %s:\n%w", count, p), "docs/jobs.md describes the job file; nothing was submitted")}
}

// submit hands a job in. An answer that got lost is asked for again: the ID makes that harmless.
func submit(ctx context.Context, c *api.Client, r api.SubmitRequest) (api.SubmitResponse, error) {
	again := newBackoff(250*time.Millisecond, 2*time.Second)
	sent := false
	for {
		answer, err := c.Submit(ctx, r)
		u, ok := errors.AsType[*api.UnreachableError](err)
		sent = sent || ok && u.Sent
		if !ok || !sent || again.elapsed() > giveUpAfter/2 {
			return answer, err
		}
		if err := again.wait(ctx); err != nil {
			return answer, err
		}
	}
}
