package marathon

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// apiError is an answer other than success.
type apiError struct {
	Status int
	Body   any
}

func (e *apiError) Error() string {
	b, _ := json.Marshal(e.Body) // a map of plain values
	return fmt.Sprintf("%d: %s", e.Status, b)
}

func failure(status int, format string, args ...any) *apiError {
	return &apiError{Status: status, Body: map[string]any{"message": fmt.Sprintf(format, args...)}}
}

func errNoApp(id string) error { return failure(http.StatusNotFound, "App '%s' does not exist", id) }

func errExists(id string) error {
	return failure(http.StatusConflict, "An app with id [%s] already exists.", id)
}

func errLocked(ids []string) error {
	list := make([]map[string]string, len(ids))
	for i, id := range ids {
		list[i] = map[string]string{"id": id}
	}
	return &apiError{Status: http.StatusConflict, Body: map[string]any{
		// the angle brackets are Marathon's own: it never fills them in
		"message":     "App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.",
		"deployments": list,
	}}
}

// problem is one finding of the validation.
type problem struct {
	Path   string   `json:"path"`
	Errors []string `json:"errors"`
}

func invalidObject(ps []problem) error {
	return &apiError{Status: http.StatusUnprocessableEntity, Body: map[string]any{"message": "Object is not valid", "details": ps}}
}

// invalidJSON answers text that is no JSON (400), and JSON of a wrong type: 422, in 1.4 400.
func (c *Core) invalidJSON(err error) error {
	if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		status := http.StatusUnprocessableEntity
		if c.o.Legacy {
			status = http.StatusBadRequest
		}
		return &apiError{Status: status, Body: map[string]any{
			"message": "Invalid JSON",
			"details": []problem{{Path: jsonPath(te.Field), Errors: []string{expected(te)}}},
		}}
	}
	return &apiError{Status: http.StatusBadRequest, Body: map[string]any{"message": "Invalid JSON", "details": err.Error()}}
}

func jsonPath(field string) string {
	if field == "" {
		return "/"
	}
	return "/" + strings.ReplaceAll(field, ".", "/")
}

// expected words a type error as Play's JSON library does.
func expected(te *json.UnmarshalTypeError) string {
	k := te.Type.Kind().String()
	switch {
	case k == "string":
		return "error.expected.jsstring"
	case k == "bool":
		return "error.expected.jsboolean"
	case strings.HasPrefix(k, "int"), strings.HasPrefix(k, "uint"), strings.HasPrefix(k, "float"):
		return "error.expected.jsnumber"
	case k == "slice", k == "array":
		return "error.expected.jsarray"
	}
	return "error.expected.jsobject"
}
