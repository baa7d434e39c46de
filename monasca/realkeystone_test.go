package monasca

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"qosctl/monasca/monascatest"
)

// realKeystone is Debian's Keystone as a process of this test's own, on loopback, with its state in a directory of the test's.
type realKeystone struct {
	t    *testing.T
	dir  string
	port int
	cmd  *exec.Cmd

	mu       sync.Mutex
	admin    string // token
	adminTil time.Time
}

const adminPassword = "admin-pw"

// installKeystone installs Debian's package if it is not there. It stays installed.
func installKeystone(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("keystone-wsgi-public"); err == nil {
		return
	}
	if os.Getuid() != 0 {
		t.Fatal("needs Debian's package python3-keystone, and root to install it: apt-get install --no-install-recommends python3-keystone")
	}
	t.Log("installing Debian's package python3-keystone: 26 MB to fetch, minutes to unpack")
	run := func(args ...string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-o", "DPkg::Lock::Timeout=600"}, args...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		return cmd.CombinedOutput()
	}
	install := []string{"install", "-y", "--no-install-recommends", "python3-keystone"}
	out, err := run(install...)
	if err != nil { // a machine whose lists of packages are old, or not there
		if out, err = run("update"); err == nil {
			out, err = run(install...)
		}
	}
	if err != nil {
		t.Fatalf("THE TESTS WITH A REAL KEYSTONE CAN'T RUN: python3-keystone can't be installed: %v: %s", err, last(out))
	}
}

func last(out []byte) string { return string(out[max(0, len(out)-2000):]) }

// startKeystone sets a Keystone up whose tokens live for so many seconds.
func startKeystone(t *testing.T, life int) *realKeystone {
	t.Helper()
	installKeystone(t)
	k := &realKeystone{t: t, dir: t.TempDir(), port: freePort(t)}
	for _, d := range []string{"fernet-keys", "credential-keys"} {
		if err := os.Mkdir(filepath.Join(k.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	conf := fmt.Sprintf(`[DEFAULT]
use_stderr = true
[database]
connection = sqlite:///%[1]s/keystone.db
[token]
provider = fernet
expiration = %[2]d
allow_expired_window = 0
[fernet_tokens]
key_repository = %[1]s/fernet-keys
[credential]
key_repository = %[1]s/credential-keys
[cache]
enabled = false
[identity]
password_hash_rounds = 4
`, k.dir, life)
	if err := os.WriteFile(k.conf(), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("http://127.0.0.1:%d/v3", k.port)
	k.run("keystone-manage", "--config-file", k.conf(), "db_sync")
	// Without it a write during a read ends in "database is locked".
	k.run("/usr/bin/python3", "-c", "import sqlite3,sys;sqlite3.connect(sys.argv[1]).execute('PRAGMA journal_mode=WAL')", k.dir+"/keystone.db")
	for _, setup := range []string{"fernet_setup", "credential_setup"} {
		k.run("keystone-manage", "--config-file", k.conf(), setup, "--keystone-user", "root", "--keystone-group", "root")
	}
	k.run("keystone-manage", "--config-file", k.conf(), "bootstrap", "--bootstrap-username", "admin", "--bootstrap-password", adminPassword,
		"--bootstrap-project-name", "admin", "--bootstrap-role-name", "admin", "--bootstrap-service-name", "keystone", "--bootstrap-region-id", "RegionOne",
		"--bootstrap-public-url", url, "--bootstrap-internal-url", url, "--bootstrap-admin-url", url)
	k.start()
	t.Cleanup(k.stop)
	return k
}

func (k *realKeystone) conf() string { return filepath.Join(k.dir, "keystone.conf") }

func (k *realKeystone) url() string { return fmt.Sprintf("http://127.0.0.1:%d", k.port) }

func (k *realKeystone) run(name string, args ...string) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), 5*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		k.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, last(out))
	}
}

// start runs the server, on the state that is there, and waits until it answers.
func (k *realKeystone) start() {
	k.t.Helper()
	var out bytes.Buffer
	cmd := exec.Command("keystone-wsgi-public", "--host", "127.0.0.1", "--port", fmt.Sprint(k.port), "--", "--config-file", k.conf())
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	k.cmd = cmd
	up := func() bool {
		resp, err := http.Get(k.url() + "/v3")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}
	if !within(k.t, 3*time.Minute, up) {
		k.stop()
		k.t.Fatalf("Keystone does not answer: %s", last(out.Bytes()))
	}
}

// stop kills the server, as a machine that loses power would.
func (k *realKeystone) stop() {
	if k.cmd == nil {
		return
	}
	_ = k.cmd.Process.Kill()
	_ = k.cmd.Wait() // it was killed
	k.cmd = nil
}

// signal sends a signal to the server.
func (k *realKeystone) signal(s syscall.Signal) {
	k.t.Helper()
	if err := k.cmd.Process.Signal(s); err != nil {
		k.t.Fatal(err)
	}
}

// within says whether something becomes true in time.
func within(t *testing.T, d time.Duration, what func() bool) bool {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); ; <-tick.C {
		if what() {
			return true
		}
		if time.Now().After(end) || t.Context().Err() != nil {
			return false
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// call makes a request as Keystone's administrator and returns the answer's status and body.
func (k *realKeystone) call(method, path string, body any, header ...string) (int, []byte) {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			k.t.Error(err)
		}
	}
	req, err := http.NewRequest(method, k.url()+path, bytes.NewReader(data))
	if err != nil {
		k.t.Error(err)
		return 0, nil
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Auth-Token", k.adminToken())
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, text
}

// adminToken returns a token of the administrator's that is good for a moment.
func (k *realKeystone) adminToken() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Now().Before(k.adminTil) {
		return k.admin
	}
	body := `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"admin","domain":{"id":"default"},"password":"` + adminPassword + `"}}},"scope":{"project":{"name":"admin","domain":{"id":"default"}}}}}`
	resp, err := http.Post(k.url()+"/v3/auth/tokens", "application/json", strings.NewReader(body))
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	var answer struct{ Token lifetime }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return ""
	}
	k.admin = resp.Header.Get("X-Subject-Token")
	k.adminTil = time.Now().Add(answer.Token.Expires.Sub(answer.Token.Issued) / 2)
	return k.admin
}

// make creates an object and returns its id.
func (k *realKeystone) make(kind string, object map[string]any) string {
	k.t.Helper()
	status, body := k.call(http.MethodPost, "/v3/"+kind+"s", map[string]any{kind: object})
	var answer map[string]struct{ ID string }
	if err := json.Unmarshal(body, &answer); status != http.StatusCreated || err != nil {
		k.t.Fatalf("make %s: %d, %v: %s", kind, status, err, body)
	}
	return answer[kind].ID
}

// grant gives a user a role in a project.
func (k *realKeystone) grant(user, role, project string) {
	k.t.Helper()
	if status, body := k.call(http.MethodPut, "/v3/projects/"+project+"/users/"+user+"/roles/"+role, nil); status != http.StatusNoContent {
		k.t.Fatalf("grant a role: %d: %s", status, body)
	}
}

// role is what a token may do, as Monasca's middleware learns it: by asking Keystone.
func (k *realKeystone) role(token string) monascatest.Role {
	status, body := k.call(http.MethodGet, "/v3/auth/tokens", nil, "X-Subject-Token", token)
	var answer struct {
		Token struct{ Roles []struct{ Name string } }
	}
	switch {
	case status == http.StatusNotFound:
		return monascatest.Invalid
	case status != http.StatusOK || json.Unmarshal(body, &answer) != nil:
		return monascatest.Unknown
	}
	for _, r := range answer.Token.Roles {
		if r.Name == string(monascatest.Agent) {
			return monascatest.Agent
		}
	}
	return monascatest.Stranger
}
