package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qosctl/agent/peer"
	"qosctl/cgroup"
	"qosctl/ckpt"
	"qosctl/container"
	"qosctl/container/docker"
)

const movedJob = "0000000d-0000-4000-8000-00000000000d"

// keeperOf is a keeper with a store, and no container that it could touch.
func keeperOf(t testing.TB, node string) (*ckpt.Keeper, string) {
	t.Helper()
	client, err := docker.Dial("unix:///nowhere/docker.sock")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "checkpoints")
	k, err := ckpt.New(ckpt.Options{Dir: dir, Node: node, Engine: struct{ container.Engine }{}, Docker: client, Cgroups: &cgroup.FS{}, Keep: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k, dir
}

// shelve writes a sealed checkpoint.
func shelve(t testing.TB, dir string, sequence int, content map[string][]byte) (ckpt.Manifest, string) {
	t.Helper()
	m := ckpt.Manifest{Version: 1, Job: movedJob, Name: "/moved", Sequence: sequence, Node: "a", Container: ckpt.Container{ID: "c"}}
	at := filepath.Join(dir, movedJob, fmt.Sprint(sequence))
	write := func(name string, b []byte) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(at, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, b := range content {
		write(name, b)
		sum := sha256.Sum256(b)
		m.Files = append(m.Files, ckpt.File{Name: name, Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:])})
		m.Bytes += int64(len(b))
	}
	slices.SortFunc(m.Files, func(a, b ckpt.File) int { return strings.Compare(a.Name, b.Name) })
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	digest := hex.EncodeToString(sum[:])
	write("manifest.json", b)
	write("manifest.sha256", []byte(digest+"  manifest.json\n"))
	return m, digest
}

func peerIdentity(t testing.TB, node string, key byte) *peer.Identity {
	t.Helper()
	i, err := peer.NewIdentity(peer.IdentityOptions{Node: node, Keys: [][]byte{bytes.Repeat([]byte{key}, peer.KeySize)}})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// servePeers runs a node's server until the test ends.
func servePeers(t testing.TB, node string, h http.Handler) peer.Target {
	t.Helper()
	s, err := peer.NewServer(peer.Options{Listen: "127.0.0.1:0", Identity: peerIdentity(t, node, 1), Handler: h})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return peer.Target{Node: node, Addr: s.Addr().String()}
}

func peerClient(t testing.TB, node string, key byte) *peer.Client {
	t.Helper()
	c, err := peer.NewClient(peer.ClientOptions{Identity: peerIdentity(t, node, key)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// movedContent is content that can be packed, and content that can't.
func movedContent(n int) map[string][]byte {
	noise := make([]byte, n)
	src := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(src.Uint32())
	}
	return map[string][]byte{"images/pages-1.img": noise, "images/pages-2.img": bytes.Repeat([]byte("words "), n/6), "images/zero.img": make([]byte, n), "layer.tar": {1}}
}

// breaking breaks its first streams after so many bytes.
type breaking struct {
	giver
	broken atomic.Int64
	tries  int64
}

type brokenAfter struct {
	w    io.Writer
	left int
}

func (b *brokenAfter) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errors.New("broken by the test")
	}
	return b.w.Write(p)
}

func (f *breaking) Send(ctx context.Context, r ckpt.Ref, w io.Writer, o ckpt.SendOptions) error {
	if f.broken.Add(1) <= f.tries {
		w = &brokenAfter{w, 700 << 10}
	}
	return f.giver.Send(ctx, r, w, o)
}

func TestCheckpointMovesFromNodeToNode(t *testing.T) {
	t.Parallel()
	a, dirA := keeperOf(t, "a")
	b, _ := keeperOf(t, "b")
	m, digest := shelve(t, dirA, 4, movedContent(2<<20))
	at := servePeers(t, "a", checkpointServer{keeper: &breaking{giver: a, tries: 2}, log: slog.New(slog.DiscardHandler)}.routes())
	c := checkpointClient{keeper: b, client: peerClient(t, "b", 1)}
	ref := ckpt.Ref{Job: movedJob, Sequence: 4}
	out, err := c.fetchCheckpoint(t.Context(), at, ref, digest)
	if err != nil || out.Tries != 3 || out.Wire > 4<<20 {
		t.Fatalf("%d tries, %d bytes, %v", out.Tries, out.Wire, err)
	}
	got, err := b.Verify(t.Context(), ref)
	if err != nil || cmp.Diff(got, m) != "" {
		t.Errorf("%v %s", err, cmp.Diff(got, m))
	}
}

func TestCheckpointThatCanNotBeHad(t *testing.T) {
	t.Parallel()
	a, dirA := keeperOf(t, "a")
	b, _ := keeperOf(t, "b")
	_, digest := shelve(t, dirA, 1, movedContent(1000))
	_, spoilt := shelve(t, dirA, 2, movedContent(1000))
	if err := os.WriteFile(filepath.Join(dirA, movedJob, "2", "manifest.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := servePeers(t, "a", checkpointServer{keeper: a, log: slog.New(slog.DiscardHandler)}.routes())
	c := checkpointClient{keeper: b, client: peerClient(t, "b", 1)}
	for name, test := range map[string]struct {
		ref    ckpt.Ref
		digest string
		want   error
	}{
		"it has none":    {ckpt.Ref{Job: movedJob, Sequence: 9}, digest, ckpt.ErrNone},
		"another digest": {ckpt.Ref{Job: movedJob, Sequence: 1}, strings.Repeat("0", 64), ckpt.ErrDamaged},
		"damaged there":  {ckpt.Ref{Job: movedJob, Sequence: 2}, spoilt, ckpt.ErrDamaged},
	} {
		begin := time.Now()
		if _, err := c.fetchCheckpoint(t.Context(), at, test.ref, test.digest); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		} else if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("%s took %s", name, took)
		}
	}
	for _, path := range []string{"x/1/stream", movedJob + "/0/stream", movedJob + "/x/stream", "..%2f..%2fetc/1/stream", movedJob + "/1/stream?file=-1", movedJob + "/1/stream?file=x", movedJob + "/1/stream?offset=99999999999999999999"} {
		_, err := c.client.Do(t.Context(), at, http.MethodGet, checkpointPath+path, nil) //nolint:bodyclose // there is none beside an error
		if s, ok := errors.AsType[*peer.StatusError](err); !ok || s.Status != http.StatusNotFound {
			t.Errorf("%s: %v", path, err)
		}
	}
	stranger := checkpointClient{keeper: b, client: peerClient(t, "b", 7)}
	if _, err := stranger.client.Do(t.Context(), at, http.MethodGet, checkpointPath+movedJob+"/1/stream", nil); !errors.Is(err, peer.ErrRefused) { //nolint:bodyclose // there is none beside an error
		t.Errorf("a stranger: %v", err)
	}
	if list, err := b.List(t.Context(), ""); err != nil || len(list) > 0 {
		t.Errorf("%v %v", list, err)
	}
}

// BenchmarkCheckpointMoves compares sending and fetching 512 MiB over TLS on this machine with a plain copy over the same TLS.
func BenchmarkCheckpointMoves(b *testing.B) {
	const size = 512 << 20
	kinds := map[string]func([]byte){
		"noise": func(p []byte) {
			src := rand.NewChaCha8([32]byte{1})
			_, _ = src.Read(p)
		},
		"floats": func(p []byte) { // as a job's memory: numbers with much in common, half of the pages never written
			src := rand.New(rand.NewPCG(1, 2))
			for i := 0; i+8 <= len(p); i += 8 {
				if i/4096%2 == 0 {
					copy(p[i:], fmt.Appendf(nil, "%08d", src.IntN(1000)))
				}
			}
		},
	}
	for name, fill := range kinds {
		a, dir := keeperOf(b, "a")
		p := make([]byte, size)
		fill(p)
		_, digest := shelve(b, dir, 1, map[string][]byte{"images/pages-1.img": p, "layer.tar": {1}})
		ref, file := ckpt.Ref{Job: movedJob, Sequence: 1}, filepath.Join(dir, movedJob, "1", "images", "pages-1.img")
		mux := http.NewServeMux()
		mux.Handle("/", checkpointServer{keeper: a, log: slog.New(slog.DiscardHandler)}.routes())
		mux.HandleFunc("/plain", func(w http.ResponseWriter, _ *http.Request) {
			f, err := os.Open(file)
			if err == nil {
				_, err = io.CopyBuffer(w, struct{ io.Reader }{f}, make([]byte, 256<<10))
				err = errors.Join(err, f.Close())
			}
			if err != nil {
				b.Error(err)
			}
		})
		at, client := servePeers(b, "a", mux), peerClient(b, "b", 1)
		read := func(path string, w io.Writer) {
			response, err := client.Do(b.Context(), at, http.MethodGet, path, nil)
			if err != nil {
				b.Fatal(err)
			}
			_, err = io.CopyBuffer(struct{ io.Writer }{w}, response.Body, make([]byte, 256<<10))
			if err = errors.Join(err, response.Body.Close()); err != nil {
				b.Fatal(err)
			}
		}
		run := func(what string, f func(b *testing.B)) {
			b.Run(name+"/"+what, func(b *testing.B) {
				b.SetBytes(size)
				for b.Loop() {
					f(b)
				}
			})
		}
		run("plain", func(*testing.B) { read("/plain", io.Discard) })
		run("send", func(*testing.B) { read(checkpointURL(ref)+"/stream", io.Discard) })
		run("plain-to-disk", func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "copy"))
			if err != nil {
				b.Fatal(err)
			}
			read("/plain", f)
			if err = errors.Join(f.Sync(), f.Close()); err != nil {
				b.Fatal(err)
			}
		})
		run("fetch", func(b *testing.B) {
			k, _ := keeperOf(b, "b")
			if _, err := (checkpointClient{keeper: k, client: client}).fetchCheckpoint(b.Context(), at, ref, digest); err != nil {
				b.Fatal(err)
			}
			if err := k.Remove(b.Context(), ref); err != nil {
				b.Fatal(err)
			}
		})
	}
}
