package agent

import (
	"errors"
	"fmt"
	"net/http"

	"qosctl/agent/api"
	"qosctl/framework"
	"qosctl/qos"
)

// Codes of the API's errors; docs/openapi.yaml lists them.
const (
	codeInvalid   = "invalid"
	codeExists    = "exists"
	codeNotFound  = "not_found"
	codeForbidden = "forbidden"
	codeFramework = "framework"
	codeConflict  = "conflict"
	codeInternal  = "internal"
	codeBusy      = "busy"
)

var statusOf = map[string]int{
	codeInvalid: http.StatusUnprocessableEntity, codeExists: http.StatusConflict, codeNotFound: http.StatusNotFound,
	codeForbidden: http.StatusForbidden, codeFramework: http.StatusBadGateway, codeConflict: http.StatusConflict,
	codeInternal: http.StatusInternalServerError, codeBusy: http.StatusTooManyRequests,
}

// refusal is an error that the API answers with, in words for the user.
type refusal struct{ body api.Error }

func (r *refusal) Error() string { return r.body.Text }

func (r *refusal) hint(h string) *refusal {
	r.body.Hint = h
	return r
}

func refuse(code, format string, args ...any) *refusal {
	return &refusal{api.Error{Status: statusOf[code], Code: code, Text: fmt.Sprintf(format, args...)}}
}

// asRefusal turns any error into one that the API can answer with.
func asRefusal(err error) *refusal {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r
	}
	if ps, ok := errors.AsType[qos.Problems](err); ok {
		r := refuse(codeInvalid, "the job file has %d problem(s)", len(ps))
		for _, p := range ps {
			r.body.Problems = append(r.body.Problems, api.Problem{Path: p.Path, Value: p.Value, Text: p.Text, Remedy: p.Remedy})
		}
		return r
	}
	if _, ok := errors.AsType[*framework.Error](err); ok {
		return refuse(codeFramework, "%s", err).hint(framework.Remedy(err))
	}
	return refuse(codeInternal, "%s", err)
}
