package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	"qosctl/agent/api"
	"qosctl/qos"
)

// The exit codes. exitCodes describes them.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitMissed      = 3
	exitFailed      = 4
	exitUnreachable = 5
	exitInvalid     = 6
	exitNotFound    = 7
	exitConflict    = 8
	exitFramework   = 9
	exitForbidden   = 10
	exitWarning     = 11
	exitFault       = 12
	exitInterrupted = 130
)

// exitCodes is what `qosctl help exit-codes` shows.
const exitCodes = `Exit codes of qosctl:

    0  done; wait and submit --follow: the job met its deadline
    1  any other error
    2  wrong use of the command line
    3  wait, submit --follow: the job missed its deadline
    4  wait, submit --follow: the job failed or was cancelled
    5  no agent could be reached
    6  refused: the job file, the configuration or the request is invalid
    7  there is no such job or app
    8  conflict: the name is taken, somebody else is changing the same thing, or it can't be
       done as things are; drain --wait: a job can't be moved
    9  the framework refused, or could not be reached
   10  not permitted
   11  doctor: the worst finding is a warning
   12  doctor: the worst finding is a fault
   75  run: the job's checkpoint can't be restored on this node; it is kept
  130  interrupted

With several jobs, wait exits with the worst of their codes: 4 before 3 before 0.
` + "`qosctl run` exits with the exit code of the job it stands for, and `qosctl dev` and\n`qosctl agent` with 0 when they were told to stop.\n"

// exitStatus ends the program with a code. Without an err nothing is printed.
type exitStatus struct {
	code int
	err  error
}

func (e *exitStatus) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitStatus) Unwrap() error { return e.err }

// usageError is wrong use of the command line.
type usageError struct {
	err  error
	hint string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }
func (e *usageError) Hint() string  { return e.hint }

// hinted is an error with a remedy.
type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }
func (e *hinted) Hint() string  { return e.hint }

// withHint adds a remedy to an error.
func withHint(err error, hint string) error { return &hinted{err, hint} }

// hintOf returns the outermost remedy of an error, "" if it has none.
func hintOf(err error) string {
	type hinter interface {
		error
		Hint() string
	}
	if h, ok := errors.AsType[hinter](err); ok {
		return h.Hint()
	}
	return ""
}

// exitCodeOf maps an error to the program's exit code.
func exitCodeOf(err error) int {
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[*exitStatus](err); ok {
		return e.code
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[qos.Problems](err); ok {
		return exitInvalid
	}
	if s, ok := errors.AsType[*api.StatusError](err); ok {
		return exitCodeOfAnswer(s.Body)
	}
	switch {
	case errors.Is(err, api.ErrUnreachable) && errors.Is(err, fs.ErrPermission):
		return exitForbidden // there is an agent's socket, for others
	case errors.Is(err, api.ErrUnreachable):
		return exitUnreachable
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	return exitError
}

// exitCodeOfAnswer maps an agent's refusal.
func exitCodeOfAnswer(e api.Error) int {
	switch e.Code {
	case api.CodeInvalid:
		return exitInvalid
	case api.CodeExists, api.CodeConflict:
		return exitConflict
	case api.CodeNotFound:
		return exitNotFound
	case api.CodeForbidden:
		return exitForbidden
	case api.CodeFramework:
		return exitFramework
	}
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return exitForbidden
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusConflict:
		return exitConflict
	}
	return exitError
}
