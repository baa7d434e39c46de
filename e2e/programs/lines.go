package programs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Line is a line that a program prints at a step.
type Line struct {
	N    int64     // from 1, without a gap
	At   time.Time // CLOCK_REALTIME
	More []string  // what else it says
}

// ParseLine reads a line.
func ParseLine(text string) (Line, error) {
	f := strings.Fields(text)
	if len(f) < 2 || len(f[1]) != 19 { // a torn number is shorter; it has 19 digits until the year 2286
		return Line{}, fmt.Errorf("%q is no line of a program", text)
	}
	n, err := strconv.ParseInt(f[0], 10, 64)
	if err != nil {
		return Line{}, fmt.Errorf("%q is no line of a program: %w", text, err)
	}
	at, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return Line{}, fmt.Errorf("%q is no line of a program: %w", text, err)
	}
	return Line{N: n, At: time.Unix(0, at), More: f[2:]}, nil
}

// ErrOutput says that output is not what a program prints: a line is missing, doubled or torn.
var ErrOutput = errors.New("lost, doubled or torn output")

// Lines reads a program's output from its first line to the last whole one. Where it is not what the program has printed, that is ErrOutput.
// The output of an incarnation follows that of the one before.
func Lines(r io.Reader) ([]Line, error) {
	var list []Line
	in := bufio.NewReader(r)
	for {
		text, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return list, fmt.Errorf("read output: %w", err)
		}
		l, err := ParseLine(text)
		if err != nil {
			return list, fmt.Errorf("%w after line %d: %w", ErrOutput, len(list), err)
		}
		if l.N != int64(len(list))+1 {
			return list, fmt.Errorf("%w: after line %d comes line %d", ErrOutput, len(list), l.N)
		}
		list = append(list, l)
	}
}

// Writer checks lines of `job writer`: each byte follows from the line's number.
func Writer(list []Line) error {
	for _, l := range list {
		if len(l.More) != 1 || l.More[0] != Filler(l.N) {
			return fmt.Errorf("%w: line %d is %q", ErrOutput, l.N, l.More)
		}
	}
	return nil
}

// Filler is what `job writer` prints in a line after number and time.
func Filler(n int64) string {
	b := make([]byte, 1+n*7%97)
	for i := range b {
		b[i] = 'a' + byte((n+int64(i)*3)%26)
	}
	return string(b)
}

// Burned reads what `job burn` says in a line: the CPU time that it has had by its own clock, its progress, and how often it was restored.
func Burned(l Line) (cpu time.Duration, work int64, restores int, err error) {
	var n [3]int64
	if len(l.More) != len(n) {
		return 0, 0, 0, fmt.Errorf("%q is no line of burn", l.More)
	}
	for i, text := range l.More {
		if n[i], err = strconv.ParseInt(text, 10, 64); err != nil {
			return 0, 0, 0, fmt.Errorf("%q is no line of burn: %w", l.More, err)
		}
	}
	return time.Duration(n[0]), n[1], int(n[2]), nil
}

// Gap is the longest time between two lines that follow each other, and the number of the line before it: the downtime of a program that
// prints all the time and was restored once.
func Gap(list []Line) (gap time.Duration, before int64) {
	for i := 1; i < len(list); i++ {
		if d := list[i].At.Sub(list[i-1].At); d > gap {
			gap, before = d, list[i-1].N
		}
	}
	return gap, before
}
