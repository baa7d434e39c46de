package api_test

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"qosctl/agent/api"
	"qosctl/qos"
)

// document is what the tests need of docs/openapi.yaml.
type document struct {
	Paths      map[string]map[string]yaml.Node `yaml:"paths"`
	Components struct {
		Schemas map[string]struct {
			Properties map[string]yaml.Node `yaml:"properties"`
		} `yaml:"schemas"`
	} `yaml:"components"`
}

func openapi(t *testing.T) (document, string) {
	t.Helper()
	data, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var d document
	if err := yaml.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	return d, string(data)
}

// routes are the methods and paths that the document has, as "GET /v1/jobs/{job}".
func (d document) routes() []string {
	var list []string
	for path, item := range d.Paths {
		for method := range item {
			if method != "parameters" {
				list = append(list, strings.ToUpper(method)+" "+path)
			}
		}
	}
	slices.Sort(list)
	return list
}

// TestTheClientAsksForWhatIsDocumented calls every method of the clients.
func TestTheClientAsksForWhatIsDocumented(t *testing.T) {
	t.Parallel()
	var (
		mu    sync.Mutex
		asked = make(map[string]bool)
	)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		path := strings.ReplaceAll(r.URL.Path, "JOB", "{job}")
		asked[r.Method+" "+strings.NewReplacer("drain/{job}", "drain/{node}", "pprof/{job}", "pprof/{profile}").Replace(path)] = true
		_, _ = io.WriteString(w, "{}")
	})
	s, err := api.NewStandin("JOB", api.Options{Address: c.Address(), Token: "s3cret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	for _, client := range []any{c, s} {
		for _, m := range reflect.ValueOf(client).Methods() {
			if m.Type().NumIn() > 0 && m.Type().In(0) == reflect.TypeFor[context.Context]() {
				callWithNothing(t, m)
			}
		}
	}
	d, _ := openapi(t)
	want := slices.DeleteFunc(d.routes(), func(r string) bool { return strings.HasSuffix(r, "/events") }) // the page's
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(asked))); diff != "" {
		t.Errorf("document - client +:\n%s", diff)
	}
}

// callWithNothing calls a method with zero values, and JOB for every string.
func callWithNothing(t *testing.T, m reflect.Value) {
	t.Helper()
	args := []reflect.Value{reflect.ValueOf(t.Context())}
	for i := 1; i < m.Type().NumIn(); i++ {
		arg := reflect.New(m.Type().In(i)).Elem()
		switch {
		case arg.Kind() == reflect.String:
			arg.SetString("JOB")
		case arg.Type() == reflect.TypeFor[api.SubmitRequest]():
			arg.Set(reflect.ValueOf(api.SubmitRequest{File: json.RawMessage("{}")}))
		}
		args = append(args, arg)
	}
	for _, result := range m.Call(args) {
		switch r := result.Interface().(type) {
		case error:
			t.Errorf("%v: %v", m.Type(), r)
		case io.Closer:
			_ = r.Close()
		}
	}
}

var handled = regexp.MustCompile(`\.Handle(?:Func)?\("([A-Z]+ /[^"]+)"`)

// TestTheAgentAnswersWhatIsDocumented reads the agent's routes from its source.
func TestTheAgentAnswersWhatIsDocumented(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../routes.go")
	if err != nil {
		t.Fatal(err)
	}
	var routes []string
	for _, m := range handled.FindAllStringSubmatch(string(source), -1) {
		routes = append(routes, m[1])
	}
	slices.Sort(routes)
	d, _ := openapi(t)
	if diff := cmp.Diff(d.routes(), routes); diff != "" {
		t.Errorf("document - agent +:\n%s", diff)
	}
}

func TestEverySchemaHasTheFieldsOfItsType(t *testing.T) {
	t.Parallel()
	d, text := openapi(t)
	types := map[string]reflect.Type{}
	for _, v := range []any{
		api.SubmitRequest{},
		api.SubmitResponse{},
		api.Problem{},
		api.Error{},
		api.Job{},
		api.JobList{},
		api.Explanation{},
		api.Event{},
		api.History{},
		api.Change{},
		api.PastRun{},
		api.JobNews{},
		api.ClusterNews{},
		api.Node{},
		api.Attach{},
		api.Checkpoint{},
		api.CheckpointList{},
		api.CheckpointRequest{},
		api.RestoreRequest{},
		api.Doctor{},
		api.Check{},
		api.DebugState{},
		api.StoreState{},
		api.Peer{},
		api.PeerList{},
		api.TargetGroup{},
		api.UsageReport{},
		api.UsageKey{},
		api.UsageCounts{},
		api.Hold{},
		api.Holds{},
		api.Migrate{},
		api.MigrateResponse{},
		api.Drain{},
		api.DrainResponse{},
		api.DrainStatus{},
		api.Leaving{},
		api.KeyInfo{},
		api.NodeKeys{},
		api.Keyring{},
		api.KeyChange{},
		api.Claim{},
		api.ClaimResponse{},
		api.Output{},
		api.Stop{},
		qos.QoS{},
		qos.Judgement{},
		qos.Cause{},
		qos.Tally{},
		qos.Run{},
		qos.Account{},
		qos.Entry{},
		qos.Decision{},
		qos.Memory{},
	} {
		types[reflect.TypeOf(v).Name()] = reflect.TypeOf(v)
	}
	for name, schema := range d.Components.Schemas {
		typ, ok := types[name]
		if !ok {
			t.Errorf("schema %s is of no type", name)
			continue
		}
		var want []string
		for field := range typ.Fields() {
			tag, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			want = append(want, tag)
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(schema.Properties))); diff != "" {
			t.Errorf("%s: type - schema +:\n%s", name, diff)
		}
	}
	for name := range types {
		if _, ok := d.Components.Schemas[name]; !ok {
			t.Errorf("type %s has no schema", name)
		}
	}
	for _, m := range regexp.MustCompile(`#/components/schemas/(\w+)`).FindAllStringSubmatch(text, -1) {
		if _, ok := d.Components.Schemas[m[1]]; !ok {
			t.Errorf("schema %s is referred to and isn't there", m[1])
		}
	}
}
