package agent

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// served are the routes that the package's source registers, by the function that does.
func served(t *testing.T) map[string][]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok && len(call.Args) == 2 {
					if s, ok := call.Fun.(*ast.SelectorExpr); ok && (s.Sel.Name == "Handle" || s.Sel.Name == "HandleFunc") {
						route := "" // put together of constants
						if l, ok := call.Args[0].(*ast.BasicLit); ok {
							route, _ = strconv.Unquote(l.Value)
						}
						found[f.Name.Name] = append(found[f.Name.Name], route)
					}
				}
				return true
			})
		}
	}
	return found
}

// A route that is added must be added to a table of credentials, whichever file and function adds it. Peers' routes are behind mutual TLS, all of
// them: package peer tries who gets so far.
func TestTheTableHasEveryEndpoint(t *testing.T) {
	t.Parallel()
	table := map[string]bool{"/": true} // pageCase
	for _, e := range endpoints {
		table[e.route] = true
	}
	standin := map[string]bool{"/": true} // no route
	for _, e := range standinEndpoints {
		standin[e.route] = true
	}
	peers := map[string]bool{"peerRoutes": true, "checkpointRoutes": true, "keyringRoutes": true, "routes": true}
	all := served(t)
	if len(all["adminRoutes"]) < 20 || len(all["standinRoutes"]) < 3 || len(all["peerRoutes"]) < 5 {
		t.Fatalf("only these routes were found: %v", all)
	}
	for in, routes := range all {
		known := table
		switch {
		case in == "standinRoutes":
			known = standin
		case in == "withThesis" && len(routes) == 1: // of thesisRoutes
			continue
		case peers[in]:
			for _, r := range routes {
				if r != "" && r != "/" && !strings.Contains(r, " /peer/v1/") {
					t.Errorf("%s serves peers %s", in, r)
				}
			}
			continue
		case in != "adminRoutes" && in != "debugRoutes" && in != "socketRoutes":
			t.Errorf("%s serves %q: for whom?", in, routes)
			continue
		}
		for _, r := range routes {
			if !known[r] {
				t.Errorf("%q of %s is in no table of credentials", r, in)
			}
		}
	}
}

// standinEndpoints are the routes of the stand-ins' socket; want is what the right secret gets.
var standinEndpoints = []struct {
	route, path, body string
	want              int
}{
	{"POST /v1/standin/{job}/claim", "/v1/standin/" + idA + "/claim", `{"task":"t1"}`, 200},
	{"POST /v1/standin/{job}/stop", "/v1/standin/" + idA + "/stop", `{"task":"t2","signal":15}`, 404}, // that task has claimed nothing
	{"GET /v1/standin/{job}/output", "/v1/standin/" + idA + "/output?task=t2", "", 404},
}

// Each route of the stand-ins' socket without a secret, with a wrong one, with another job's, with an operator's token, and with the job's.
func TestEveryStandinEndpointWithEverySecret(t *testing.T) {
	t.Parallel()
	n, _ := guarded(t, readsOpen)
	n.submit(idB, `{"id":"/tea/job","cmd":"true","cpus":0.1,"mem":32,"qos":{"duration":1,"desv_deadline":0.1,"deadline":60}}`)
	h := n.agent.standinRoutes()
	n.port.mu.Lock()
	own, others := n.port.secrets[idA], n.port.secrets[idB]
	n.port.mu.Unlock()
	for _, e := range standinEndpoints {
		method, _, _ := strings.Cut(e.route, " ")
		for _, c := range []struct {
			who, secret string
			want        int
		}{
			{"nobody", "", http.StatusForbidden},
			{"a wrong secret", "not-a-secret-of-this-job", http.StatusForbidden},
			{"another job", others, http.StatusForbidden},
			{"an operator", operatorToken, http.StatusForbidden},
			{"the job", own, e.want},
		} {
			if status, body := ask(t, h, method, e.path, c.secret, e.body); status != c.want || c.secret != "" && strings.Contains(body, c.secret) {
				t.Errorf("%s by %s: %d, want %d: %s", e.route, c.who, status, c.want, body)
			}
		}
	}
}
