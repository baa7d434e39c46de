package main_test

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "qosctl"

// imports says which of our packages the packages of a room may import, beside qos and the room's own. "*" is any but cli and the
// command at the root; "devmesos/*" is each package in that directory. A room that isn't listed may import nothing of ours.
var imports = map[string][]string{
	"":                      {"cli"},
	"agent":                 {"*"},
	"agent/api":             {"qos"},
	"agent/bundle":          {},
	"agent/doctor":          {"qos", "agent/api", "agent/pki", "cgroup", "ckpt", "container/docker", "framework", "framework/*", "gossip", "monasca"},
	"agent/history":         {"qos", "agent/api"},
	"agent/page":            {},
	"agent/peer":            {"qos", "agent/pki"},
	"agent/pki":             {},
	"agent/thesis":          {"qos"},
	"cgroup":                {"qos"},
	"ckpt":                  {"qos", "cgroup", "container"},
	"ckpt/*":                {"qos"},
	"cli":                   {"qos", "agent", "agent/api", "agent/bundle", "agent/pki", "ckpt/ociruntime", "devmesos", "framework", "container/process", "sim"},
	"container":             {"qos", "cgroup"},
	"container/*":           {"qos", "cgroup", "container"},
	"devmesos":              {"qos", "cgroup"},
	"devmesos/*":            {"qos", "cgroup", "devmesos/*"},
	"e2e":                   {"*"},
	"e2e/*":                 {},
	"examples/*":            {"qos", "agent/api"},
	"examples/benchcontrol": {"qos", "sim"},
	"examples/demo":         {"qos", "agent/api", "cgroup", "sim"},
	"examples/ckptbench":    {"qos", "cgroup", "ckpt", "container", "container/docker", "e2e/node", "e2e/programs"},
	"framework":             {"qos"},
	"framework/*":           {"qos", "framework"},
	"gossip":                {"qos"},
	"gossip/*":              {"qos", "gossip"},
	"monasca":               {"qos"},
	"packaging/*":           {"cli"},
	"qos":                   {},
	"sim":                   {"qos"},
}

// kept says where alone, outside of tests, a package of others or of the standard library may be imported.
var kept = map[string][]string{
	"os/exec":                     {"agent", "agent/doctor", "ckpt", "ckpt/ociruntime", "cli", "container/process", "devmesos/node", "e2e/node", "e2e/programs", "examples/bench", "examples/ckptbench", "examples/demo", "tools"},
	"github.com/spf13/viper":      {"agent"},
	"github.com/spf13/cobra":      {"cli", "packaging/generate"},
	"go.etcd.io/bbolt":            {"agent"},
	"github.com/hashicorp":        {"gossip"},
	"github.com/go-zookeeper/zk":  {"gossip/zkfence"},
	"github.com/docker/docker":    {"ckpt", "container/docker"}, // and agent, which makes the client
	"github.com/gophercloud":      {"monasca"},
	"github.com/containerd":       {"ckpt", "cgroup", "container/docker", "container/process"},
	"github.com/stretchr/testify": {},
	"math/rand":                   {}, // math/rand/v2 it is
	"log":                         {}, // log/slog it is
}

// pure are packages that package qos must do without: it decides, and does no I/O.
var pure = []string{"os", "net", "net/http", "io/fs", "path/filepath", "log/slog", "sync", "context", "runtime", "syscall"}

// source is a Go file of ours.
type source struct {
	path string // from the root, with slashes
	dir  string // "": the root
	fset *token.FileSet
	ast  *ast.File
	text []byte
}

// test says whether s serves tests alone: a test, or a suite such as containertest.
func (s source) test() bool {
	return strings.HasSuffix(s.path, "_test.go") || strings.HasSuffix(s.dir, "test")
}

// walk calls f for every file of the repository that people wrote.
func walk(t *testing.T, f func(name string, text []byte)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "bin" || d.Name() == "node_modules") {
			return fs.SkipDir
		}
		if !d.Type().IsRegular() || name == ".git" { // a file in a work tree that belongs to another clone
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		f(name, text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	walk(t, func(name string, text []byte) {
		if path.Ext(name) != ".go" || strings.Contains(name, "testdata/") {
			return
		}
		fset := token.NewFileSet()
		tree, err := parser.ParseFile(fset, name, text, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		dir := path.Dir(name)
		if dir == "." {
			dir = ""
		}
		all = append(all, source{path: name, dir: dir, fset: fset, ast: tree, text: text})
	})
	return all
}

func TestEveryPackageHasADocComment(t *testing.T) {
	t.Parallel()
	doc := map[string]bool{}
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		want := "Package " + s.ast.Name.Name + " "
		if s.ast.Name.Name == "main" {
			want = "Command "
		}
		doc[s.dir] = doc[s.dir] || strings.HasPrefix(s.ast.Doc.Text(), want)
	}
	for dir, ok := range doc {
		if !ok {
			t.Errorf("package in %q has no doc comment that begins with Package or Command and its name", dir)
		}
	}
}

// allowed says whether a file in dir may import our package pkg ("": the root's).
func allowed(dir, pkg string) bool {
	rules, ok := imports[dir]
	if !ok {
		rules = imports[path.Dir(dir)+"/*"]
	}
	if slices.Contains(rules, "*") {
		return pkg != "" && pkg != "cli"
	}
	for _, r := range rules {
		if ok, err := path.Match(r, pkg); ok && err == nil {
			return true
		}
	}
	return dir == pkg || dir != "" && strings.HasPrefix(pkg, dir+"/")
}

func TestImportsGoOneWay(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		for _, spec := range s.ast.Imports {
			p := strings.Trim(spec.Path.Value, `"`)
			if ours, ok := strings.CutPrefix(p+"/", module+"/"); ok {
				if ours = strings.TrimSuffix(ours, "/"); !allowed(s.dir, ours) {
					t.Errorf("%s imports %s: the rooms' order forbids it (see docs/architecture.md)", s.path, p)
				}
				continue
			}
			for pkg, where := range kept {
				if (p == pkg || strings.HasPrefix(p, pkg+"/") && strings.Contains(pkg, ".")) && !slices.Contains(where, s.dir) {
					t.Errorf("%s imports %s, which is kept to %v", s.path, p, where)
				}
			}
			if s.dir == "qos" && slices.Contains(pure, p) {
				t.Errorf("%s imports %s: package qos decides, it does no I/O", s.path, p)
			}
		}
	}
}

func TestFilesAndFunctionsAreShort(t *testing.T) {
	t.Parallel()
	const longestFile, longestFunc = 400, 60
	for _, s := range sources(t) {
		if n := strings.Count(string(s.text), "\n"); n > longestFile {
			t.Errorf("%s has %d lines, more than %d", s.path, n, longestFile)
		}
		if s.test() {
			continue
		}
		for _, d := range s.ast.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil || len(f.Body.List) == 1 && isReturn(f.Body.List[0]) { // a table
				continue
			}
			if n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1; n > longestFunc {
				t.Errorf("%s: %s has %d lines, more than %d", s.fset.Position(f.Pos()), f.Name.Name, n, longestFunc)
			}
		}
	}
}

func isReturn(s ast.Stmt) bool {
	_, ok := s.(*ast.ReturnStmt)
	return ok
}

// call returns "pkg.Name" of a call such as time.Sleep(…), else "".
func call(n ast.Node) string {
	c, ok := n.(*ast.CallExpr)
	if !ok {
		return ""
	}
	sel, ok := c.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok {
		return ""
	}
	return x.Name + "." + sel.Sel.Name
}

func TestNothingSleepsOrIsLeftRunning(t *testing.T) {
	t.Parallel()
	exits := []string{"os.Exit", "log.Fatal", "log.Fatalf"}
	for _, s := range sources(t) {
		bubble := strings.Contains(string(s.text), `"testing/synctest"`) // time is virtual there: a sleep waits for nobody
		for n := range ast.Preorder(s.ast) {
			at := s.fset.Position(n.Pos())
			switch name := call(n); {
			case name == "time.Sleep" && !bubble:
				t.Errorf("%s: time.Sleep: wait for what is to happen, with a bound", at)
			case slices.Contains(exits, name) && s.ast.Name.Name != "main" && !s.test():
				t.Errorf("%s: %s outside of main", at, name)
			}
			if _, ok := n.(*ast.GoStmt); ok && !s.test() {
				t.Errorf("%s: a goroutine that nobody waits for: use a WaitGroup's Go, or an errgroup", at)
			}
			if f, ok := n.(*ast.FuncDecl); ok && f.Name.Name == "init" && f.Recv == nil {
				t.Errorf("%s: init has effects that nobody asked for", at)
			}
		}
	}
}

func TestNoPathOfTheMachineItWasWrittenOn(t *testing.T) {
	t.Parallel()
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	// Homes and build directories. Job files under testdata and examples may name what their users have.
	machine := regexp.MustCompile(`(?m)(^|[\s"'=(` + "`" + `])/(root|home|Users|work|workspace|builds?)/[a-zA-Z0-9._-]+`)
	walk(t, func(name string, text []byte) {
		if strings.Contains(string(text), here+"/") {
			t.Errorf("%s names this directory, %s", name, here)
		}
		if strings.Contains(name, "testdata/") || path.Ext(name) == ".json" {
			return
		}
		lines := bufio.NewScanner(strings.NewReader(string(text)))
		lines.Buffer(nil, len(text)+1)
		for i := 1; lines.Scan(); i++ {
			if hit := machine.FindString(lines.Text()); hit != "" {
				t.Errorf("%s:%d: path of a machine: %s", name, i, strings.TrimSpace(hit))
			}
		}
	})
}
