package containertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/container"
)

func lifecycle(t *testing.T, b *bench) {
	before := time.Now()
	id := b.create(t, container.Spec{Command: "read line < fifo", Env: []string{"A=b"}})
	i := b.inspect(t, id)
	if i.State != container.Created || i.PID != 0 || i.Exit != nil || i.Created.Before(before.Add(-time.Second)) {
		t.Errorf("created: %+v", i)
	}
	if err := b.Engine.Remove(t.Context(), id); err != nil {
		t.Fatalf("remove a created one: %v", err)
	}
	id = b.create(t, container.Spec{Command: "echo up; while ! [ -e go ]; do sleep 0.01; done; exit 3"})
	if err := b.Engine.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	b.up(t, id)
	i = b.inspect(t, id)
	if i.State != container.Running || i.PID <= 0 || i.Exit != nil || i.Started.Before(i.Created) || i.Cgroup.CPU == "" {
		t.Errorf("running: %+v", i)
	}
	cwd := fmt.Sprintf("/proc/%d/cwd/go", i.PID)
	if err := os.WriteFile(cwd, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	x := b.wait(t, id)
	if x.Code != 3 || x.Signal != 0 || x.Unknown || x.Finished.Before(i.Started) {
		t.Errorf("exit: %+v", x)
	}
	i = b.inspect(t, id)
	if i.State != container.Exited || i.Exit == nil || cmp.Diff(*i.Exit, x) != "" || i.PID != 0 {
		t.Errorf("exited: %+v, waited for %+v", i, x)
	}
	if err := b.Engine.Stop(t.Context(), id, grace); err != nil {
		t.Errorf("stop an exited one: %v", err)
	}
	if err := b.Engine.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Engine.Inspect(t.Context(), id); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("inspect a removed one: %v", err)
	}
}

func exitCodes(t *testing.T, b *bench) {
	for _, c := range []struct {
		command string
		want    container.Exit
	}{
		{"true", container.Exit{}},
		{"exit 1", container.Exit{Code: 1}},
		{"exit 255", container.Exit{Code: 255}},
		{"nosuchcommand", container.Exit{Code: 127}},
		{"kill -TERM $$", container.Exit{Code: 143, Signal: 15}},
		{"kill -KILL $$", container.Exit{Code: 137, Signal: 9}},
		{"kill -SEGV $$", container.Exit{Code: 139, Signal: 11}},
		{"kill -HUP $$", container.Exit{Code: 129, Signal: 1}},
		{"kill -INT $$", container.Exit{Code: 130, Signal: 2}},
	} {
		if b.Image != "" && c.want.Signal != 0 {
			continue // the first process of a PID namespace is not ended by its own signals
		}
		got := b.wait(t, b.run(t, container.Spec{Command: c.command}))
		got.Finished, got.CPU = time.Time{}, 0
		if got.Code == 255 {
			got.Reason = "" // Docker has this code for an end that nobody saw, too, and an engine may say so
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s", c.command, d)
		}
	}
}

func badCommand(t *testing.T, b *bench) {
	for _, c := range []struct {
		spec container.Spec
		code int
		text string
	}{
		{container.Spec{Args: []string{"/nonexistent/program"}}, container.CodeNotFound, "/nonexistent/program"},
		{container.Spec{Args: []string{"nosuchprogram"}}, container.CodeNotFound, "nosuchprogram"},
		{container.Spec{Args: []string{"/etc"}}, container.CodeNoExec, "/etc"},
		{container.Spec{Args: []string{"/etc/passwd"}}, container.CodeNoExec, "/etc/passwd"},
		{container.Spec{Command: "true", Dir: "/nonexistent/dir"}, container.CodeSetup, "/nonexistent/dir"},
	} {
		if b.Image != "" && c.spec.Dir != "" {
			continue // refused at its creation
		}
		id := b.create(t, c.spec)
		err := b.Engine.Start(t.Context(), id)
		if err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("start %+v: %v", c.spec, err)
		}
		x := b.wait(t, id)
		if x.Code != c.code || !strings.Contains(x.Reason, c.text) {
			t.Errorf("exit of %+v: %+v, want code %d", c.spec, x, c.code)
		}
		if err = b.Engine.Start(t.Context(), id); !errors.Is(err, container.ErrStarted) {
			t.Errorf("start again: %v", err)
		}
	}
}

func stopTerm(t *testing.T, b *bench) {
	id := b.run(t, container.Spec{Command: `trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.01; done`})
	b.up(t, id)
	begin := time.Now()
	if err := b.Engine.Stop(t.Context(), id, grace); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > grace/2 {
		t.Errorf("stop took %v", took)
	}
	if x := b.wait(t, id); x.Code != 5 {
		t.Errorf("exit: %+v", x)
	}
	if out := b.output(t, id, container.Stdout, 0); string(out) != "up\nbye\n" {
		t.Errorf("output %q", out)
	}
}

func stopTree(t *testing.T, b *bench) {
	id := b.run(t, container.Spec{Command: `trap 'wait; exit 0' TERM
(trap 'echo child; exit 0' TERM; echo up; while :; do sleep 0.01; done) &
while :; do wait; done`})
	b.up(t, id)
	if err := b.Engine.Stop(t.Context(), id, grace); err != nil {
		t.Fatal(err)
	}
	if out := b.output(t, id, container.Stdout, 0); string(out) != "up\nchild\n" {
		t.Errorf("output %q: the child was not told to stop", out)
	}
}

func stopKill(t *testing.T, b *bench) {
	id := b.run(t, container.Spec{Command: `trap '' TERM; echo up; while :; do sleep 0.01; done`})
	b.up(t, id)
	const short = 300 * time.Millisecond
	begin := time.Now()
	if err := b.Engine.Stop(t.Context(), id, short); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < short {
		t.Errorf("killed after %v, before its grace of %v was over", took, short)
	}
	if x := b.wait(t, id); x.Code != 137 || x.Signal != 9 {
		t.Errorf("exit: %+v", x)
	}
}

func treeDies(t *testing.T, b *bench) {
	b.contained(t)
	id := b.run(t, container.Spec{Command: `setsid sh -c 'trap "" TERM HUP; sleep 1000 & echo $!; wait' & echo $!; sleep 0.2; exit 4`})
	if x := b.wait(t, id); x.Code != 4 {
		t.Errorf("exit: %+v", x)
	}
	pids := strings.Fields(string(b.output(t, id, container.Stdout, 0)))
	if len(pids) != 2 {
		t.Fatalf("pids %q", pids)
	}
	for _, p := range pids {
		if b, err := os.ReadFile("/proc/" + p + "/stat"); err == nil && !strings.Contains(string(b), ") Z ") {
			t.Errorf("process %s outlives its container: %s", p, b)
		}
	}
}

func surroundings(t *testing.T, b *bench) {
	b.contained(t)
	dir := t.TempDir()
	id := b.run(t, container.Spec{
		Args: []string{"sh", "-c", `printf '%s|' "$0" "$@" "$A" "$B"; pwd; env | cut -d= -f1 | sort | tr '\n' ' '`, "zero", "one two", ""},
		Env:  []string{"A=x y=z", "B="}, Dir: dir,
	})
	if x := b.wait(t, id); x.Code != 0 {
		t.Errorf("exit: %+v", x)
	}
	want := "zero|one two||x y=z||" + dir + "\nA B PATH PWD "
	if out := b.output(t, id, container.Stdout, 0); string(out) != want {
		t.Errorf("got %q, want %q", out, want)
	}
	id = b.run(t, container.Spec{Command: "echo out; echo err >&2; echo more >>/dev/stderr; cat"})
	b.wait(t, id)
	if out, err := b.output(t, id, container.Stdout, 0), b.output(t, id, container.Stderr, 0); string(out) != "out\n" || string(err) != "err\nmore\n" {
		t.Errorf("stdout %q, stderr %q", out, err)
	}
}

func user(t *testing.T, b *bench) {
	b.contained(t)
	show := `echo $(id -u) $(id -g) $(id -G); grep NoNewPrivs /proc/self/status; touch mine && echo wrote; echo x >>/dev/stdout`
	users := []container.User{b.User}
	if b.Other != nil {
		users = append(users, *b.Other)
	} else {
		t.Log("not tested: another user, which needs root")
	}
	for _, u := range users {
		id := b.run(t, container.Spec{Command: show, User: u})
		if x := b.wait(t, id); x.Code != 0 {
			t.Errorf("exit: %+v, %s", x, b.output(t, id, container.Stderr, 0))
		}
		nnp := 0
		if u.UID != 0 {
			nnp = 1
		}
		groups := []string{strconv.Itoa(u.GID)}
		for _, g := range u.Groups {
			groups = append(groups, strconv.Itoa(g))
		}
		want := fmt.Sprintf("%d %d %s\nNoNewPrivs:\t%d\nwrote\nx\n", u.UID, u.GID, strings.Join(groups, " "), nnp)
		if out := b.output(t, id, container.Stdout, 0); string(out) != want {
			t.Errorf("got %q, want %q", out, want)
		}
	}
}

func labelsAndList(t *testing.T, b *bench) {
	want := []string{"a-1", "a.b", "b-1", "c_1"}
	for _, id := range []string{"b-1", "c_1", "a.b", "a-1"} {
		b.create(t, container.Spec{ID: id, Command: "true", Labels: map[string]string{"qosctl.job": id, "empty": ""}})
	}
	infos, err := b.Engine.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range infos {
		got = append(got, i.ID)
		labels := maps.Clone(i.Labels)
		maps.DeleteFunc(labels, func(k, _ string) bool { return k == "qosctl.parent" }) // Docker's
		if d := cmp.Diff(map[string]string{"qosctl.job": i.ID, "empty": ""}, labels); d != "" {
			t.Errorf("labels of %s: %s", i.ID, d)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("list %v, want %v", got, want)
	}
}

func startedOnce(t *testing.T, b *bench) {
	id := b.create(t, container.Spec{Command: "echo once; sleep 0.3"})
	if err := b.Engine.Create(t.Context(), b.whole(container.Spec{ID: id, Command: "true", User: b.User})); !errors.Is(err, container.ErrExists) {
		t.Errorf("create again: %v", err)
	}
	engines := []container.Engine{b.Engine, b.Engine, b.Engine}
	if b.Reopen != nil {
		engines = append(engines, b.Reopen(t))
	}
	var wg sync.WaitGroup
	errs := make([]error, len(engines))
	for n, e := range engines {
		wg.Go(func() { errs[n] = e.Start(t.Context(), id) })
	}
	wg.Wait()
	started := 0
	for _, err := range errs {
		if err == nil {
			started++
		} else if !errors.Is(err, container.ErrStarted) {
			t.Error(err)
		}
	}
	if both := b.Shared && started == 2 && errs[len(errs)-1] == nil; started != 1 && !both {
		t.Errorf("%d of %d starts succeeded: %v", started, len(engines), errs)
	}
	if err := b.Engine.Start(t.Context(), id); !errors.Is(err, container.ErrStarted) {
		t.Errorf("start a running one: %v", err)
	}
	b.wait(t, id)
	if err := b.Engine.Start(t.Context(), id); !errors.Is(err, container.ErrStarted) {
		t.Errorf("start an exited one: %v", err)
	}
	if out := b.output(t, id, container.Stdout, 0); string(out) != "once\n" {
		t.Errorf("output %q", out)
	}
}

func removeRunning(t *testing.T, b *bench) {
	id := b.run(t, container.Spec{Command: "sleep 1000"})
	if err := b.Engine.Remove(t.Context(), id); !errors.Is(err, container.ErrRunning) {
		t.Errorf("remove a running one: %v", err)
	}
	if i := b.inspect(t, id); i.State != container.Running {
		t.Errorf("it is %s now", i.State)
	}
}

func refusedSpecs(t *testing.T, b *bench) {
	for _, s := range []container.Spec{
		{ID: "", Command: "true"},
		{ID: "../x", Command: "true"},
		{ID: ".x", Command: "true"},
		{ID: strings.Repeat("x", 129), Command: "true"},
		{ID: "x"},
		{ID: "x", Command: "true", Args: []string{"true"}},
		{ID: "x", Command: "true", Env: []string{"noequals"}},
		{ID: "x", Command: "true", Env: []string{"A=\x00"}},
		{ID: "x", Command: "tr\x00ue"},
		{ID: "x", Command: "true", Dir: "relative"},
		{ID: "x", Command: "true", User: container.User{UID: -1}},
		{ID: "x", Command: "true", Parent: "../up"},
		{ID: "x", Command: "true", Image: "no/such:image"},
		{ID: "x", Command: "true", Mounts: []container.Mount{{Source: "rel/ative", Target: "/x"}}},
		{ID: "x", Command: "true", Mounts: []container.Mount{{Source: "/tmp", Target: "/"}}},
		{ID: "x", Command: "true", Limits: container.Limits{CPUs: 0.001}},
	} {
		if s.User.UID == 0 {
			s.User = b.User
		}
		if b.Image != "" && s.ID == "x" {
			s.ID = "xx" // Docker wants two letters
		}
		if b.Image != "" && s.ID == "xx" && s.Command == "" && len(s.Args) == 0 {
			continue // the image may have a command
		}
		b.complete(&s)
		if err := b.Engine.Create(t.Context(), s); err == nil {
			t.Errorf("accepted: %+v", s)
			b.clean(t, s.ID)
		}
	}
	if infos, err := b.Engine.List(t.Context()); err != nil || len(infos) != 0 {
		t.Errorf("something is left: %+v, %v", infos, err)
	}
}

func events(t *testing.T, b *bench) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	old := b.run(t, container.Spec{Command: "sleep 0.2"})
	ch, err := b.Engine.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	id := b.run(t, container.Spec{Command: "true"})
	want := map[string]bool{old + " exit": true, id + " start": true, id + " exit": true}
	end := time.NewTimer(patience)
	defer end.Stop()
	for len(want) > 0 {
		select {
		case ev := <-ch:
			if time.Since(ev.At) > patience || ev.At.IsZero() {
				t.Errorf("event %+v: when?", ev)
			}
			delete(want, ev.ID+" "+string(ev.Kind))
		case <-end.C:
			t.Fatalf("missing: %v", want)
		}
	}
	cancel()
	for open := true; open; {
		select {
		case _, open = <-ch:
		case <-end.C:
			t.Fatal("events do not end with their context")
		}
	}
}
