package doctor

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qosctl/agent/api"
)

// wants holds a finding against what it should be: its level, and words of its text, cause and remedy.
func wants(t *testing.T, c api.Check, level api.Level, words ...string) {
	t.Helper()
	said := c.Text + "\n" + c.Cause + "\n" + c.Remedy
	if c.Severity() != level || c.OK != (level == api.LevelOK || level == api.LevelSkipped) {
		t.Errorf("%s %s is %s (ok %t), want %s: %s", c.Name, c.Of, c.Level, c.OK, level, said)
	}
	for _, w := range words {
		if !strings.Contains(said, w) {
			t.Errorf("%s: %q is not in %q", c.Name, w, said)
		}
	}
	if (level == api.LevelWarning || level == api.LevelFault) && c.Remedy == "" {
		t.Errorf("%s: no remedy for %q", c.Name, said)
	}
}

// only is the one finding of a probe.
func only(t *testing.T, p Probe) api.Check {
	t.Helper()
	list := p.Look(t.Context())
	if len(list) != 1 {
		t.Fatalf("%s: %+v", p.Entry.Name, list)
	}
	return list[0]
}

// named is the finding of a check among those of probes.
func named(t *testing.T, e Entry, probes ...Probe) api.Check {
	t.Helper()
	for _, p := range probes {
		for _, c := range p.Look(t.Context()) {
			if c.Name == e.Name {
				return c
			}
		}
	}
	t.Fatalf("no finding of %s", e.Name)
	return api.Check{}
}

func TestFindingsComeInOrderAndInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		after := func(d time.Duration, e Entry) Probe {
			return Probe{Entry: e, Look: func(ctx context.Context) []api.Check {
				select {
				case <-time.After(d):
					return []api.Check{e.ok("", "after %s", d)}
				case <-ctx.Done():
					return []api.Check{e.fault("", "cut off", ctx.Err(), "")}
				}
			}}
		}
		probes := []Probe{
			after(3*time.Second, KernelVersion), after(time.Second, CgroupCPU), after(time.Hour, MesosAgent),
			{Entry: DiskData, Look: func(context.Context) []api.Check { <-stuck; return nil }}, // as on a dead server's directory
			after(0, ClockSync),
		}
		for range 20 { // which of two that are ready is taken is chance
			probes = append(probes, after(0, ClockSync))
			probes[len(probes)-1].Of = fmt.Sprint(len(probes))
		}
		x := &Examiner{}
		begin := time.Now()
		list := x.Run(t.Context(), probes)
		if took := time.Since(begin); took != Within+grace {
			t.Errorf("it took %s", took)
		}
		var names []string
		for _, c := range list {
			names = append(names, c.Name)
		}
		if got := strings.Join(names[:5], " "); got != "kernel.version cgroup.cpu mesos.agent disk.data clock.sync" {
			t.Errorf("in the order %s", got)
		}
		wants(t, list[0], api.LevelOK)
		if list[0].Took != 3 {
			t.Errorf("it took %v", list[0].Took)
		}
		wants(t, list[2], api.LevelFault, "cut off")
		wants(t, list[3], api.LevelFault, "without an end")
		for _, c := range list[4:] {
			wants(t, c, api.LevelOK) // they had ended long before
		}
		again := x.Run(t.Context(), probes[3:4])
		wants(t, again[0], api.LevelFault, "begun 11s ago has not ended yet")
		close(stuck)
		x.wg.Wait()
	})
}

// docPath has the table of all checks.
const docPath = "../../docs/doctor.md"

// TestTheTableHasEveryCheck holds docs/doctor.md against the checks.
func TestTheTableHasEveryCheck(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(docPath)
	if err != nil {
		t.Fatal(err)
	}
	checks, _, _ := strings.Cut(string(text), "\n## ")
	rows := regexp.MustCompile("(?m)^\\| `[a-z]+\\.[a-z_]+` \\|.*$").FindAllString(checks, -1)
	want := []string{}
	for _, e := range Checks() {
		want = append(want, row(e))
	}
	for i := range max(len(rows), len(want)) {
		got, is := "", ""
		if i < len(rows) {
			got = rows[i]
		}
		if i < len(want) {
			is = want[i]
		}
		if got != is {
			t.Errorf("%s, row %d:\n%s\nwant\n%s", docPath, i+1, got, is)
		}
	}
}

// row is a check in the table.
func row(e Entry) string {
	cells := []string{"`" + e.Name + "`", e.Looks, e.Warning, e.Fault, e.Remedy}
	for i, c := range cells {
		if cells[i] = strings.ReplaceAll(c, "|", "\\|"); c == "" {
			cells[i] = "-"
		}
	}
	return "| " + strings.Join(cells, " | ") + " |"
}

// Every Entry that can be found is listed, by a name of its own.
func TestEveryEntryIsListed(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("catalogue.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`(?m)^\t[A-Z]\w+ += Entry\{`).FindAllString(string(source), -1)
	names := map[string]bool{}
	for _, e := range Checks() {
		if names[e.Name] || e.Looks == "" || e.Remedy == "" || e.Warning+e.Fault == "" {
			t.Errorf("%+v", e)
		}
		names[e.Name] = true
	}
	if len(declared) != len(names) {
		t.Errorf("%d entries are declared, %d listed", len(declared), len(names))
	}
}
