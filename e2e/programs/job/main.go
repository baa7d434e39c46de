// Command job is what runs in containers that tests stop and restore: each of its sub-commands holds something that must survive, and looks
// at every step whether it has.
//
// A step prints one line, "NUMBER NANOSECONDS MORE": the numbers count from 1 without a gap, the nanoseconds are CLOCK_REALTIME. The first line
// comes when all is set up. What is amiss is said on standard error, and the exit status is then 3. SIGTERM ends it with 43.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Exit statuses.
const (
	codeUsage = 2
	codeAmiss = 3
	codeTerm  = 43
)

// thing is what a sub-command holds.
type thing interface {
	// flags are its own.
	flags(set *flag.FlagSet)
	// begin sets up; args are what follows the flags.
	begin(args []string) error
	// step looks whether all is as it was, and does something more. What it returns is printed after number and time.
	step(n int64) (string, error)
}

// things are the sub-commands.
func things() map[string]thing {
	return map[string]thing{
		"burn": &burn{}, "counter": &counter{}, "files": &files{}, "listen": &listen{}, "locks": &locks{}, "pair": &pair{},
		"tmpfs": &tmpfs{}, "tty": &tty{}, "volume": &volume{}, "writer": &writer{},
	}
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, errOut io.Writer) int {
	all := things()
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(args) == 0 || all[args[0]] == nil {
		fmt.Fprintf(errOut, "use: job %s [flags]\n", strings.Join(names, "|"))
		return codeUsage
	}
	t, l := all[args[0]], loop{out: out}
	set := flag.NewFlagSet(args[0], flag.ContinueOnError)
	set.SetOutput(errOut)
	set.DurationVar(&l.every, "every", 100*time.Millisecond, "between two steps; 0: none")
	set.Int64Var(&l.count, "count", 0, "steps until it ends; 0: for ever")
	set.BoolVar(&l.both, "both", false, "print each line to standard error too")
	t.flags(set)
	if err := set.Parse(args[1:]); err != nil {
		return codeUsage
	}
	if l.both {
		l.err = errOut
	}
	err := t.begin(set.Args())
	if err == nil {
		err = l.run(t)
	}
	switch {
	case errors.Is(err, errTerminated):
		return codeTerm
	case err != nil:
		fmt.Fprintf(errOut, "%s: AMISS: %v\n", args[0], err)
		return codeAmiss
	}
	return 0
}

var errTerminated = errors.New("terminated")

// loop does steps and prints their lines.
type loop struct {
	every    time.Duration
	count    int64
	both     bool
	out, err io.Writer // err: nil for none
}

func (l loop) run(t thing) error {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	var tick <-chan time.Time
	if l.every > 0 {
		ticker := time.NewTicker(l.every)
		defer ticker.Stop()
		tick = ticker.C
	}
	for n := int64(1); l.count == 0 || n <= l.count; n++ {
		more, err := t.step(n)
		if err != nil {
			return fmt.Errorf("step %d: %w", n, err)
		}
		if err := l.print(n, more); err != nil {
			return fmt.Errorf("print line %d: %w", n, err)
		}
		if tick == nil {
			select {
			case <-term:
				return errTerminated
			default:
			}
			continue
		}
		select {
		case <-term:
			return errTerminated
		case <-tick:
		}
	}
	return nil
}

// print writes a line with one write, so that it is there whole.
func (l loop) print(n int64, more string) error {
	line := strconv.AppendInt(nil, n, 10)
	line = append(line, ' ')
	line = strconv.AppendInt(line, time.Now().UnixNano(), 10)
	if more != "" {
		line = append(append(line, ' '), more...)
	}
	line = append(line, '\n')
	_, err := l.out.Write(line)
	if l.err != nil && err == nil {
		_, err = l.err.Write(line)
	}
	return err
}
