package docker

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"golang.org/x/sys/unix"

	"qosctl/container"
	"qosctl/container/containertest"
)

// TestOldestAPI runs the conformance suite over API 1.41, that of Docker 20.10, which newer daemons speak too.
func TestOldestAPI(t *testing.T) {
	needDocker(t)
	containertest.Run(t, func(t *testing.T) containertest.Setup {
		o := needDocker(t)
		c, err := client.NewClientWithOpts(client.WithHost("unix:///var/run/docker.sock"), client.WithVersion("1.41"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() }) // only its idle connections
		o.Client = c
		o.Parent = fmt.Sprintf("/qosctl-docker-old-%d-%d", os.Getpid(), time.Now().UnixNano()%1e6)
		t.Cleanup(func() { clean(t, o) })
		return setupOf(t, o)
	})
}

// await waits for a real condition.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(40 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("not within 40 s: ", what)
		}
	}
}

// killDockerd kills this node's daemon, which is started again at once, or when back is called.
func killDockerd(t *testing.T, away bool) (back func()) {
	t.Helper()
	const flag, pidFile = "/run/docker.away", "/run/docker.pid"
	if away {
		if err := os.WriteFile(flag, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err == nil {
		err = unix.Kill(pid, unix.SIGKILL)
	}
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the daemon is gone", func() bool { return unix.Kill(pid, 0) != nil })
	return func() {
		if err := os.Remove(flag); err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
	}
}

// following gathers a container's output as it comes.
type following struct {
	mu  sync.Mutex
	buf bytes.Buffer
	err chan error
}

func follow(t *testing.T, e *Engine, id string) *following {
	t.Helper()
	r, err := e.Logs(t.Context(), id, container.Stdout, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := &following{err: make(chan error, 1)}
	go func() { // ends with the test's context
		_, err := io.Copy(f, r)
		f.err <- errors.Join(err, r.Close())
	}()
	return f
}

func (f *following) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.buf.Write(b)
}

func (f *following) text() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.buf.String()
}

// TestDaemonKilled kills dockerd under a running container: a resize is kept, the output has no gap and no repetition, and an end that
// nobody saw is told.
func TestDaemonKilled(t *testing.T) {
	o := needDocker(t)
	o.Parent = fmt.Sprintf("/qosctl-docker-killed-%d", os.Getpid())
	e := open(t, o)
	t.Cleanup(func() { clean(t, o) })
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
	defer stop()
	events, err := e.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const id = "killed-1"
	s := container.Spec{
		ID: id, Image: testImage, Network: "none", Labels: map[string]string{labelJob: "test"}, Limits: container.Limits{CPUs: 0.9, Shares: 0.5},
		Command: `trap 'echo end; exit 7' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done`,
	}
	if err := errors.Join(e.Create(ctx, s), e.Start(ctx, id)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = e.Stop(context.Background(), id, 0) // has ended, at best
		if err := e.Remove(context.Background(), id); err != nil {
			t.Error(err)
		}
	})
	out := follow(t, e, id)
	more := func(n int) {
		t.Helper()
		await(t, "output", func() bool { return strings.Count(out.text(), "\n") > n })
	}
	more(10)
	if err := e.Resize(ctx, id, container.Limits{CPUs: 0.37}); err != nil {
		t.Fatal(err)
	}
	i, err := e.Inspect(ctx, id)
	if err != nil {
		t.Fatal(err)
	}

	killDockerd(t, false)
	await(t, "the daemon is back", func() bool { _, err := o.Client.Ping(ctx); return err == nil })
	more(strings.Count(out.text(), "\n") + 10)
	after, err := e.Inspect(ctx, id)
	if err != nil || after.PID != i.PID || after.Limits != i.Limits || after.Limits.CPUs != 0.37 {
		t.Errorf("before %+v, after %+v (%v)", i, after, err)
	}
	if c, err := o.Client.ContainerInspect(ctx, id); err != nil || c.HostConfig.CPUQuota != 37000 {
		t.Errorf("docker has quota %d, %v", c.HostConfig.CPUQuota, err)
	}
	if b, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/cpu", i.Cgroup.CPU, "cpu.cfs_quota_us")); err == nil && strings.TrimSpace(string(b)) != "37000" {
		t.Errorf("the kernel has quota %s", b)
	}

	back := killDockerd(t, true)
	if err := unix.Kill(i.PID, unix.SIGTERM); err != nil {
		t.Error(err)
	}
	await(t, "it has ended", func() bool { return unix.Kill(i.PID, 0) != nil })
	back()
	// Where containerd was killed with dockerd, whose child it is here, nobody saw how it ended: Docker says 255, and we what that may mean.
	x, err := e.Wait(ctx, id)
	if err != nil || x.OOM || x.Code != 7 && (x.Code != 255 || x.Reason == "") {
		t.Errorf("exit %+v, %v", x, err)
	}
	for exit := false; !exit; {
		select {
		case ev := <-events:
			exit = ev.ID == id && ev.Kind == container.EventExit
		case <-ctx.Done():
			t.Fatal("no event of its end")
		}
	}
	if err := <-out.err; err != nil {
		t.Error(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.text(), "\n"), "\n")
	for n, l := range lines {
		if l != strconv.Itoa(n+1) && (n+1 < len(lines) || l != "end") { // "end" was written while Docker was away: it may be lost, and no more
			t.Fatalf("line %d of %d is %q", n+1, len(lines), l)
		}
	}
}

// TestPublishedPort reaches a container of a bridge network by a port of the host.
func TestPublishedPort(t *testing.T) {
	o := needDocker(t)
	o.Parent = fmt.Sprintf("/qosctl-docker-port-%d", os.Getpid())
	e := open(t, o)
	t.Cleanup(func() { clean(t, o) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // a TCP listener's
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	const id = "published-1"
	s := container.Spec{
		ID: id, Image: testImage, Network: "bridge", Labels: map[string]string{labelJob: "test"}, Ports: []container.Port{{Container: 80, Host: port}},
		Command: `while :; do echo hello | nc -l -p 80; done`,
	}
	if err := errors.Join(e.Create(t.Context(), s), e.Start(t.Context(), id)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(e.Stop(context.Background(), id, 0), e.Remove(context.Background(), id)); err != nil {
			t.Error(err)
		}
	})
	await(t, "the container answers", func() bool {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return false
		}
		defer c.Close()
		if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return false
		}
		got := make([]byte, 6)
		_, err = io.ReadFull(c, got)
		return err == nil && string(got) == "hello\n"
	})
}

// privateRegistry serves one image to whom knows the password; it counts how often the manifest was asked for.
func privateRegistry(t *testing.T, user, password string) (host string, fetched *atomic.Int32) {
	t.Helper()
	digest := func(b []byte) string { s := sha256.Sum256(b); return "sha256:" + hex.EncodeToString(s[:]) }
	var layer, packed bytes.Buffer
	w := tar.NewWriter(&layer)
	z := gzip.NewWriter(&packed)
	err := errors.Join(w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: 3, Typeflag: tar.TypeReg}), write(w, []byte("abc")), w.Close(), write(z, layer.Bytes()), z.Close())
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","config":{"Cmd":["/file"]},"rootfs":{"type":"layers","diff_ids":[%q]}}`, digest(layer.Bytes()))
	const kind = "application/vnd.docker.distribution.manifest.v2+json"
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":%d,"digest":%q},"layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":%d,"digest":%q}]}`,
		kind, len(config), digest(config), packed.Len(), digest(packed.Bytes()))
	blobs := map[string][]byte{digest(config): config, digest(packed.Bytes()): packed.Bytes()}
	fetched = &atomic.Int32{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		if u, p, _ := r.BasicAuth(); u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		last := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		switch b, isBlob := blobs[last]; {
		case strings.Contains(r.URL.Path, "/manifests/"):
			fetched.Add(1) // by HEAD alone where the image is here already
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Docker-Content-Digest", digest(manifest))
			w.Header().Set("Content-Length", strconv.Itoa(len(manifest)))
			if r.Method != http.MethodHead {
				_, _ = w.Write(manifest) // the daemon says what it misses
			}
		case isBlob:
			_, _ = w.Write(b) // likewise
		case r.URL.Path != "/v2/":
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://"), fetched
}

func write(w io.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}

// TestPrivateRegistry pulls from a registry that wants credentials: without them it is refused, with them it is pulled once, or each time
// where that is asked for.
func TestPrivateRegistry(t *testing.T) {
	o := needDocker(t)
	o.Parent = fmt.Sprintf("/qosctl-docker-auth-%d", os.Getpid())
	e := open(t, o)
	t.Cleanup(func() { clean(t, o) })
	const user, password = "somebody", "not-to-be-seen"
	host, fetched := privateRegistry(t, user, password)
	file := func(password string) string {
		b, err := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(user + ":" + password))}}})
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	name := host + "/private/job:1"
	t.Cleanup(func() {
		if _, err := o.Client.ImageRemove(context.Background(), name, image.RemoveOptions{}); err != nil {
			t.Error(err)
		}
	})
	for i, c := range []struct {
		auth  string
		force bool
		works bool
		asks  bool // the registry, with the right password
	}{
		{"", false, false, false},
		{file("wrong"), false, false, false},
		{file(password), false, true, true},
		{"", false, true, false},
		{file(password), true, true, true},
		{"", true, false, false},
	} {
		before := fetched.Load()
		id := fmt.Sprintf("private-%d", i)
		err := e.Create(t.Context(), container.Spec{ID: id, Image: name, RegistryAuth: c.auth, ForcePull: c.force, Labels: map[string]string{labelJob: "test"}, Args: []string{"/file"}})
		switch {
		case c.works && err != nil:
			t.Errorf("case %d: %v", i, err)
		case !c.works && (!errors.Is(err, container.ErrNoImage) || strings.Contains(err.Error(), password)):
			t.Errorf("case %d: %v", i, err)
		}
		if asked := fetched.Load() > before; asked != c.asks {
			t.Errorf("case %d: the registry was asked: %v, want %v", i, asked, c.asks)
		}
		if err := e.Remove(t.Context(), id); err != nil && (c.works || !errors.Is(err, container.ErrNotFound)) {
			t.Error(err)
		}
	}
}
