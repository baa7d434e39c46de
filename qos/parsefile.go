package qos

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"
)

// file is a job file that is being read: its bytes, its options, and what has been found wrong with it so far.
type file struct {
	data     []byte
	opts     ParseOptions
	problems findings
	warnings findings
}

// maxFindings bounds the problems, and the warnings, that are kept of one file: the rest is counted.
const maxFindings = 100

// findings are problems or warnings in the order in which they were found.
type findings struct {
	list []located
	more int // that were not kept
}

func (f *findings) full() bool { return len(f.list) >= maxFindings }

func (f *findings) add(offset int, p Problem) {
	if f.full() {
		f.more++
		return
	}
	f.list = append(f.list, located{p, offset})
}

// located is a problem with the offset that it is sorted by; -1 is unknown and first.
type located struct {
	Problem
	offset int
}

// refuse reports a problem of a value, once for each value.
func (f *file) refuse(n *node, text, remedy string) {
	if n.bad {
		return
	}
	n.bad = true
	f.found(&f.problems, n, text, remedy)
}

// refuseFault reports what a parser of texts found wrong with a value.
func (f *file) refuseFault(n *node, err error) {
	if ft, ok := err.(*fault); ok { //nolint:errorlint // the parsers of this package return it bare
		f.refuse(n, ft.text, ft.remedy)
		return
	}
	f.refuse(n, err.Error(), "")
}

// refuseAt reports a problem of a place that has no value of its own.
func (f *file) refuseAt(offset int, path, text, remedy string) {
	f.problems.add(offset, Problem{Path: path, Text: text, Remedy: remedy})
}

// missing reports that a member is not there. It is placed where its object begins.
func (f *file) missing(in *node, key, text, remedy string) {
	f.refuseAt(in.start, in.path()+pathKey(key), text, remedy)
}

// warn reports something that does not stop the job.
func (f *file) warn(n *node, text, remedy string) {
	f.found(&f.warnings, n, text, remedy)
}

// warnMissing warns of a member that is not there.
func (f *file) warnMissing(in *node, key, text, remedy string) {
	f.warnings.add(in.start, Problem{Path: in.path() + pathKey(key), Text: text, Remedy: remedy})
}

// found keeps a finding. What will not be kept is not put into words: quoting costs time.
func (f *file) found(in *findings, n *node, text, remedy string) {
	if in.full() {
		in.more++
		return
	}
	in.add(n.start, Problem{Path: n.path(), Value: f.quote(n), Text: text, Remedy: remedy})
}

// suggest returns the candidate that a misspelt key was probably meant to be, or "". A file full of nonsense gets no suggestions.
func (f *file) suggest(key string, candidates []string) string {
	if f.problems.full() || f.warnings.full() {
		return ""
	}
	return nearest(key, candidates)
}

// quote returns a value as it stands in the file, on one line and shortened; "" if it may be secret.
func (f *file) quote(n *node) string {
	if n.private || n.parent == nil {
		return ""
	}
	var out bytes.Buffer
	if json.Compact(&out, f.data[n.start:n.end]) != nil {
		return ""
	}
	return shorten(out.String())
}

// finish sorts what was found into the file's order and names lines and columns.
func (f *file) finish(in findings) []Problem {
	slices.SortStableFunc(in.list, func(a, b located) int { return cmp.Compare(a.offset, b.offset) })
	var (
		out    []Problem
		line   = 1
		begin  = 0 // offset where the line begins
		passed = 0
	)
	for _, l := range in.list {
		p := l.Problem
		p.File = f.opts.File
		if l.offset >= 0 {
			for ; passed < l.offset; passed++ {
				if f.data[passed] == '\n' {
					line, begin = line+1, passed+1
				}
			}
			p.Line, p.Column = line, utf8.RuneCount(f.data[begin:l.offset])+1
		}
		out = append(out, p)
	}
	if in.more > 0 {
		out = append(out, Problem{File: f.opts.File, Path: "$", Text: fmt.Sprintf("has %d more of these", in.more), Remedy: "mend the first ones, and look again"})
	}
	return out
}

// report returns what was found in the form in which Parse gives it.
func (f *file) report() ([]Warning, error) {
	var warnings []Warning
	for _, p := range f.finish(f.warnings) {
		warnings = append(warnings, Warning(p))
	}
	if problems := f.finish(f.problems); len(problems) > 0 {
		return warnings, Problems(problems)
	}
	return warnings, nil
}

// The readers below return what a value means, and false if there is none or if it is not of that kind: then the walk over
// the field table has reported it.

func (f *file) text(n *node) (string, bool) {
	if n == nil || n.bad || n.kind != kindText {
		return "", false
	}
	return n.text, true
}

func (f *file) number(n *node) (float64, bool) {
	if n == nil || n.bad || (n.kind != kindNumber && n.kind != kindText) {
		return 0, false
	}
	value, err := parseNumber(n.text)
	return value, err == nil
}

func (f *file) integer(n *node) (int, bool) {
	value, ok := f.number(n)
	if !ok || !isInteger(value) {
		return 0, false
	}
	return int(value), true
}

func (f *file) boolean(n *node) bool {
	return n != nil && !n.bad && (n.kind == kindBool || n.kind == kindText) && n.text == "true"
}

// isInteger says whether a number is whole and fits into 32 bits, which is what both frameworks have.
func isInteger(value float64) bool {
	return value >= -1<<31 && value < 1<<31 && value == float64(int64(value))
}
