package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"qosctl/agent/api"
)

// image is the thesis' image; here it is a directory with our LINPACK in it.
const image = "serlophug/openmplinpack"

var bin string // directory of the built binaries

// TestMain builds what is tested, once.
func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if text := os.Getenv(floodVar); text != "" {
		return floodMain(text)
	}
	if !wanted() {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "qosctl-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }() // of the temporary directory
	bin = dir
	for out, pkg := range map[string]string{"qosctl": "qosctl", "image/linpack_openmp": "qosctl/examples/linpack", "image/curl": "qosctl/e2e/programs/curl"} {
		build := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, out), pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "build", pkg, err)
			return 1
		}
	}
	return m.Run()
}

func wanted() bool { return os.Getenv("QOSCTL_E2E") != "" && os.Geteuid() == 0 }

// cluster is a `qosctl dev` of its own: ports, directory and cgroups.
type cluster struct {
	t        *testing.T
	dir      string
	marathon string
	chronos  string
	cmd      *exec.Cmd
	done     chan struct{}
	log      *os.File
	api      *api.Client
}

func start(t *testing.T, args ...string) *cluster {
	t.Helper()
	if !wanted() {
		t.Skip("end-to-end tests run as root with QOSCTL_E2E=1: make e2e")
	}
	c := &cluster{t: t, dir: filepath.Join(t.TempDir(), "dev"), marathon: freeAddr(t), chronos: freeAddr(t), done: make(chan struct{})}
	var err error
	if c.log, err = os.Create(filepath.Join(t.TempDir(), "dev.log")); err != nil {
		t.Fatal(err)
	}
	c.cmd = exec.Command(filepath.Join(bin, "qosctl"), append([]string{
		"dev", "--dir", c.dir, "--marathon", c.marathon, "--chronos", c.chronos, "--mesos", freeAddr(t), "--listen", freeAddr(t),
		"--deploy", "100ms", "--period", "1s", "--map-image", image + "=" + filepath.Join(bin, "image"),
	}, args...)...)
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.done)
		_ = c.cmd.Wait() // its status is read in stop
	}()
	t.Cleanup(c.stop)
	if c.api, err = api.New(api.Options{Address: filepath.Join(c.dir, "run", "qosctl.sock")}); err != nil {
		t.Fatal(err)
	}
	c.until("ready", 20*time.Second, func() bool {
		n, err := c.api.Node(t.Context())
		return err == nil && n.Frameworks["marathon"] == "answers" && n.Frameworks["chronos"] == "answers" && c.api.Ready(t.Context()) == nil
	})
	return c
}

// stop ends the cluster and checks that it ended well and left nothing.
func (c *cluster) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // ended already: seen below
	select {
	case <-c.done:
	case <-time.After(60 * time.Second):
		c.t.Error("qosctl dev did not end within 60 s of SIGTERM")
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) // may have ended just now
		<-c.done
	}
	if code := c.cmd.ProcessState.ExitCode(); code != 0 {
		c.t.Errorf("qosctl dev exited %d", code)
	}
	if _, err := os.Stat(c.dir); !errors.Is(err, os.ErrNotExist) {
		c.t.Errorf("%s is left behind (%v)", c.dir, err)
	}
	if b, err := os.ReadFile(c.log.Name()); err == nil && c.t.Failed() {
		c.t.Logf("qosctl dev:\n%s", tail(b, 8<<10))
	}
	_ = c.log.Close() // written by the children
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// freeAddr is an address that nobody has, below those that the kernel gives to connections, of which another would be made there meanwhile, and
// below those of freeRange.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := 10000 + rand.IntN(4000)
		if _, taken := given.LoadOrStore(port, true); taken {
			continue
		}
		if addr := fmt.Sprint("127.0.0.1:", port); isFree(addr) {
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

// until waits for a real condition.
func (c *cluster) until(what string, within time.Duration, ok func() bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-c.done:
			c.t.Fatalf("qosctl dev has ended; waiting for: %s", what)
		case <-ctx.Done():
			c.t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// qosctl runs a command against the cluster.
func (c *cluster) qosctl(args ...string) (code int, stdout, stderr string) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), filepath.Join(bin, "qosctl"), append([]string{"--agent", filepath.Join(c.dir, "run", "qosctl.sock")}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		c.t.Fatalf("qosctl %s: %v", strings.Join(args, " "), err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// submit hands in a job file and returns the job's id.
func (c *cluster) submit(file string, args ...string) string {
	c.t.Helper()
	id := fmt.Sprintf("%08x-0000-4000-8000-%012x", time.Now().UnixNano()&0xffffffff, time.Now().UnixNano()&0xffffffffffff)
	if code, _, errs := c.qosctl(append([]string{"submit", "--id", id, file}, args...)...); code != 0 {
		c.t.Fatalf("submit %s: exit %d: %s", file, code, errs)
	}
	return id
}

func (c *cluster) job(id string) api.Job {
	c.t.Helper()
	j, err := c.api.Job(c.t.Context(), id)
	if err != nil {
		c.t.Fatal(err)
	}
	return j
}

// write puts a job file where a test can hand it in.
func write(t *testing.T, file map[string]any) string {
	t.Helper()
	b, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "job.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// fault switches a misbehaviour of the development scheduler on; all of them are switched off when the test ends.
func (c *cluster) fault(f map[string]any) {
	c.t.Helper()
	c.send(http.MethodPost, f)
}

func (c *cluster) clearFaults() { c.send(http.MethodDelete, nil) }

func (c *cluster) send(method string, body any) {
	c.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(c.t.Context(), method, "http://"+c.marathon+"/dev/faults", bytes.NewReader(b))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		c.t.Fatalf("%s /dev/faults: %s", method, resp.Status)
	}
}
