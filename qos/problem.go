package qos

import (
	"fmt"
	"strings"
)

// Problem is one fault of a job file: where it is, what was found there, what is wrong with it and what to do.
type Problem struct {
	File   string `json:"file,omitempty"`   // name of the file, as ParseOptions gave it
	Path   string `json:"path"`             // JSON path, as $.qos.deadline
	Value  string `json:"value,omitempty"`  // what stands there, shortened; never a value that may be secret
	Text   string `json:"text"`             // what is wrong, to be read after the path
	Remedy string `json:"remedy,omitempty"` // what to do about it
	Line   int    `json:"line,omitempty"`   // from 1; 0: not known
	Column int    `json:"column,omitempty"` // in characters, from 1; 0: not known
}

// Error returns the problem on one line: file:line:column: path: text (got value); remedy.
func (p Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File + ":")
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", p.Line, p.Column)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Text)
	if p.Value != "" {
		b.WriteString(" (got " + p.Value + ")")
	}
	if p.Remedy != "" {
		b.WriteString("; " + p.Remedy)
	}
	return b.String()
}

// Warning is something in a job file that does not stop the job, but is not done as the file has it.
type Warning Problem

// String returns the warning on one line, in the form of Problem.Error.
func (w Warning) String() string { return Problem(w).Error() }

// Problems are all the problems of one file, in the order in which they stand in it. As an error it is never empty.
type Problems []Problem

// Error returns the problems, each on a line of its own.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].Error()
	}
	return strings.Join(lines, "\n")
}

// fault is a problem whose place the finder does not know: what is wrong, and the remedy.
type fault struct{ text, remedy string }

// Error returns the fault on one line.
func (f *fault) Error() string {
	if f.remedy == "" {
		return f.text
	}
	return f.text + "; " + f.remedy
}
