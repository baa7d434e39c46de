// Package contracttest reads the tables of docs/contract.md, so that the clients of the frameworks and the development scheduler are
// tested against the same page and not against each other. The page itself explains the language of its rows.
package contracttest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Server names who is asked.
type Server string

// The servers of the page, one section each.
const (
	Marathon Server = "marathon"
	Chronos  Server = "chronos"
	Agent    Server = "agent"
	Master   Server = "master"
)

// Row is one row of the tables.
type Row struct {
	ID      string
	Server  Server   // of the section
	Given   []string // empty for "-"
	Before  *Request // sent first, its answer doesn't matter; nil: none
	Request Request  // the one that Status and Answer tell of
	During  *Request // sent while Request, an event stream, is read; nil: none
	// Eventually says that Request is sent again until its answer fits.
	Eventually bool
	Statuses   []int
	Headers    []Header
	Answer     Answer
	Source     string
	Line       int // in docs/contract.md
}

// Request is a request as the page writes it. {task} and {deployment} are for Expand to fill in.
type Request struct {
	Server Server
	Method string
	Path   string // with its query
	Body   string // "": none; not always JSON
}

// Header is a header that the answer has.
type Header struct{ Name, Pattern string }

// Kind is how an answer is compared.
type Kind string

// The kinds of answers.
const (
	Any   Kind = "any"
	Empty Kind = "empty"
	Text  Kind = "text" // Pattern fits the whole body
	JSON  Kind = "json" // Value is a part of the body
)

// Answer is what the page says of the body.
type Answer struct {
	Kind    Kind
	Pattern string
	Value   any
}

// Given is the closed vocabulary of preconditions.
func Given() *regexp.Regexp {
	const name = `[a-z0-9.-]+`
	return regexp.MustCompile(`^(auth|agent auth|no leader|standby|timeout|marathon 1\.4|chronos 2\.4` +
		`|no leading master|standby master|operators denied|agent drained|agent deactivated|machine planned` +
		`|app /` + name + `( labelled [a-z]+=[a-z]+| ending| polite| stubborn| locked)?` +
		`|job ` + name + `( running| disabled| succeeded| failed| R[0-9]+ (launched|launched twice|succeeded))?` +
		`|jobs [a-z] [0-9]+)$`)
}

// Rows reads the page. A row that can't be read fails the test.
func Rows(t testing.TB) []Row {
	t.Helper()
	data, err := os.ReadFile(Page(t))
	if err != nil {
		t.Fatalf("read the contract: %v", err)
	}
	rows, err := Parse(string(data))
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// Page is the path of docs/contract.md, found from the test's directory upwards.
func Page(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatalf("find the contract: %v", err)
	}
	for {
		page := filepath.Join(dir, "docs", "contract.md")
		if _, err := os.Stat(page); err == nil {
			return page
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("find the contract: no docs/contract.md above the test's directory")
		}
		dir = up
	}
}

// Parse reads the tables of a page.
func Parse(page string) ([]Row, error) {
	sections := map[string]Server{"## Marathon": Marathon, "## Chronos": Chronos, "## Mesos agent": Agent, "## Mesos master": Master}
	var server Server
	var rows []Row
	seen := map[string]bool{}
	for i, line := range strings.Split(page, "\n") {
		if strings.HasPrefix(line, "## ") {
			server = sections[line]
		}
		if server == "" || !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| id ") {
			continue
		}
		row, err := parseRow(server, cells(line))
		if err != nil {
			return nil, fmt.Errorf("docs/contract.md:%d: %w", i+1, err)
		}
		if seen[row.ID] {
			return nil, fmt.Errorf("docs/contract.md:%d: id %s is there twice", i+1, row.ID)
		}
		seen[row.ID] = true
		row.Line = i + 1
		rows = append(rows, row)
	}
	return rows, nil
}

// cells splits a table's line; \| is a bar within a cell.
func cells(line string) []string {
	const bar = "\x00"
	line = strings.ReplaceAll(line, `\|`, bar)
	line = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(line), "|"), "|")
	parts := strings.Split(line, "|")
	for i := range parts {
		parts[i] = strings.TrimSpace(strings.ReplaceAll(parts[i], bar, "|"))
	}
	return parts
}

func parseRow(server Server, c []string) (Row, error) {
	if len(c) != 6 {
		return Row{}, fmt.Errorf("row has %d cells, not 6", len(c))
	}
	row := Row{ID: c[0], Server: server, Source: c[5]}
	if row.ID == "" || row.Source == "" {
		return Row{}, fmt.Errorf("row %q has no id or no source", row.ID)
	}
	if c[1] != "-" {
		for g := range strings.SplitSeq(c[1], ",") {
			g = strings.TrimSpace(g)
			if !Given().MatchString(g) {
				return Row{}, fmt.Errorf("%s: %q is not of the vocabulary of given", row.ID, g)
			}
			row.Given = append(row.Given, g)
		}
	}
	if err := row.parseRequest(c[2]); err != nil {
		return Row{}, fmt.Errorf("%s: %w", row.ID, err)
	}
	for s := range strings.SplitSeq(c[3], "/") {
		status, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || status < 100 || status > 599 {
			return Row{}, fmt.Errorf("%s: %q is not a status", row.ID, s)
		}
		row.Statuses = append(row.Statuses, status)
	}
	if err := row.parseAnswer(c[4]); err != nil {
		return Row{}, fmt.Errorf("%s: %w", row.ID, err)
	}
	return row, nil
}

func (r *Row) parseRequest(cell string) error {
	form := regexp.MustCompile("^`([^`]+)`(?: (then eventually|then|while) `([^`]+)`)?$")
	m := form.FindStringSubmatch(cell)
	if m == nil {
		return fmt.Errorf("request %q can't be read", cell)
	}
	first, err := parseOne(r.Server, m[1])
	if err != nil {
		return err
	}
	if m[2] == "" {
		r.Request = first
		return nil
	}
	second, err := parseOne(r.Server, m[3])
	if err != nil {
		return err
	}
	if m[2] == "while" {
		r.Request, r.During = first, &second
		return nil
	}
	r.Before, r.Request, r.Eventually = &first, second, m[2] == "then eventually"
	return nil
}

func parseOne(server Server, text string) (Request, error) {
	for _, s := range []Server{Marathon, Chronos, Agent, Master} {
		if rest, ok := strings.CutPrefix(text, string(s)+": "); ok {
			server, text = s, rest
		}
	}
	method, rest, _ := strings.Cut(text, " ")
	path, body, _ := strings.Cut(rest, " ")
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
	default:
		return Request{}, fmt.Errorf("request %q has no method", text)
	}
	if !strings.HasPrefix(path, "/") {
		return Request{}, fmt.Errorf("request %q has no path", text)
	}
	return Request{Server: server, Method: method, Path: path, Body: body}, nil
}

// Expand fills in {task}, {deployment} and the like.
func (r Request) Expand(vars map[string]string) Request {
	r.Path, r.Body = expand(r.Path, vars), expand(r.Body, vars)
	return r
}

func expand(s string, vars map[string]string) string {
	for name, value := range vars {
		s = strings.ReplaceAll(s, "{"+name+"}", value)
	}
	return s
}
