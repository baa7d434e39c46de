package ckpt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// forged is a stream with a manifest and frames of a test's choice.
type forged struct {
	t   testing.TB
	buf bytes.Buffer
	m   Manifest
}

func forgery(t testing.TB) *forged {
	t.Helper()
	f := &forged{t: t, m: sampleManifest()}
	f.m.Files[0].SHA256, f.m.Files[1].SHA256 = digest([]byte("abc")), digest([]byte("layr"))
	f.buf.WriteString(streamMagic)
	return f
}

func (f *forged) manifest() []byte {
	b, err := json.Marshal(f.m)
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

func (f *forged) frame(h frame, payload []byte) *forged {
	h.payload = uint32(len(payload))
	b := append(make([]byte, frameSize), payload...)
	h.put(b)
	f.buf.Write(b)
	return f
}

func (f *forged) head() *forged {
	b := f.manifest()
	return f.frame(frame{kind: kindManifest, length: uint32(len(b))}, b)
}

func (f *forged) data(file uint32, offset uint64, s string) *forged {
	return f.frame(frame{kind: kindData, file: file, offset: offset, length: uint32(len(s))}, []byte(s))
}

func (f *forged) end(n uint32) *forged { return f.frame(frame{kind: kindEnd, file: n}, nil) }

// receiveInto reads a stream on a new shelf, by the digest of what is said to be the manifest.
func receiveInto(t testing.TB, k *Keeper, m Manifest, sum string, stream []byte) error {
	t.Helper()
	f, err := k.openFetch(t.Context(), m.ref(), FetchOptions{Digest: sum})
	if err != nil {
		return err
	}
	defer f.close()
	if err := f.receive(t.Context(), bytes.NewReader(stream)); err != nil {
		return err
	}
	return f.finish(t.Context())
}

func TestHostileStreamsAreRefused(t *testing.T) {
	t.Parallel()
	bomb, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	huge := bomb.EncodeAll(make([]byte, 64<<20), nil)
	ok := func(f *forged) { f.head().data(0, 0, "abc").data(1, 0, "layr").end(2) }
	bad := map[string]func(*forged){
		"other magic":        func(f *forged) { f.buf.Reset(); f.buf.WriteString("qosckpt2"); ok(f) },
		"nothing":            func(f *forged) { f.buf.Reset() },
		"no manifest":        func(f *forged) { f.data(0, 0, "abc") },
		"two manifests":      func(f *forged) { f.head().head() },
		"other manifest":     func(f *forged) { f.m.CPU++; ok(f) },
		"end too early":      func(f *forged) { f.head().data(0, 0, "abc").end(2) },
		"end of other count": func(f *forged) { f.head().data(0, 0, "abc").data(1, 0, "layr").end(3) },
		"after the end":      func(f *forged) { ok(f); f.buf.WriteByte(0) },
		"other file":         func(f *forged) { f.head().data(1, 0, "layr").data(0, 0, "abc").end(2) },
		"no such file":       func(f *forged) { f.head().data(0xffffffff, 0, "abc") },
		"other offset":       func(f *forged) { f.head().data(0, 1, "ab") },
		"huge offset":        func(f *forged) { f.head().data(0, 1<<63, "ab") },
		"twice":              func(f *forged) { f.head().data(0, 0, "a").data(0, 0, "abc") },
		"file too long":      func(f *forged) { f.head().data(0, 0, "abcd") },
		"file too short":     func(f *forged) { f.head().data(0, 0, "ab").data(1, 0, "layr").end(2) },
		"other content":      func(f *forged) { f.head().data(0, 0, "abd").data(1, 0, "layr").end(2) },
		"zeros":              func(f *forged) { f.head().frame(frame{kind: kindZero, length: 3}, nil).data(1, 0, "layr").end(2) },
		"many zeros":         func(f *forged) { f.head().frame(frame{kind: kindZero, length: 1 << 31}, nil) },
		"zeros of something": func(f *forged) { f.head().frame(frame{kind: kindZero, length: 3}, []byte("abc")) },
		"empty frame":        func(f *forged) { f.head().data(0, 0, "") },
		"kind 9":             func(f *forged) { f.head().frame(frame{kind: 9, length: 1}, []byte("x")) },
		"packing 9":          func(f *forged) { f.head().frame(frame{kind: kindData, packing: 9, length: 3}, []byte("abc")) },
		"length that lies":   func(f *forged) { f.head().frame(frame{kind: kindData, length: 2}, []byte("abc")) },
		"no zstd":            func(f *forged) { f.head().frame(frame{kind: kindData, packing: packedZstd, length: 3}, []byte("abc")) },
		"bomb":               func(f *forged) { f.head().frame(frame{kind: kindData, packing: packedZstd, length: 3}, huge) },
		"long frame": func(f *forged) {
			f.head().frame(frame{kind: kindData, length: maxChunk + 1}, make([]byte, maxChunk+1))
		},
	}
	for name, spoil := range bad {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, f := shelf(t), forgery(t)
			sum := digest(f.manifest())
			spoil(f)
			if err := receiveInto(t, k, f.m, sum, f.buf.Bytes()); !errors.Is(err, ErrDamaged) && !errors.Is(err, errWire) {
				t.Errorf("%v", err)
			}
			if list, err := k.List(t.Context(), ""); err != nil || len(list) > 0 {
				t.Errorf("it is there: %v %v", list, err)
			}
		})
	}
	k, f := shelf(t), forgery(t)
	ok(f)
	if err := receiveInto(t, k, f.m, digest(f.manifest()), f.buf.Bytes()); err != nil {
		t.Fatalf("the one they are made of: %v", err)
	}
	if _, err := k.Verify(t.Context(), f.m.ref()); err != nil {
		t.Error(err)
	}
}

// Manifests that are hostile although their digest is right: the row may come from the same node.
func TestHostileManifestsAreRefused(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*Manifest){
		"out of the store":   func(m *Manifest) { m.Files[0].Name = "images/../../../x" },
		"absolute":           func(m *Manifest) { m.Files[0].Name = "/tmp/x" },
		"the manifest":       func(m *Manifest) { m.Files[1].Name = manifestName },
		"the plan":           func(m *Manifest) { m.Files[1].Name = fetchName },
		"a directory":        func(m *Manifest) { m.Files[0].Name = "images" },
		"a file in a file":   func(m *Manifest) { m.Files[0].Name, m.Files[1].Name = "images/a", "images/a/b" },
		"a host's directory": func(m *Manifest) { m.Container.Volumes = map[string]string{"/data": "/etc"} },
		"a named volume":     func(m *Manifest) { m.Container.Volumes = map[string]string{"/data": "database"} },
		"resident for ever":  func(m *Manifest) { m.Resident = 1 << 62 },
		"no files":           func(m *Manifest) { m.Files = nil },
		"negative size":      func(m *Manifest) { m.Files[0].Size = -1 },
		"sizes that overrun": func(m *Manifest) { m.Files[0].Size, m.Files[1].Size, m.Bytes = 1<<62, 1<<62, -1<<63 },
		"another's":          func(m *Manifest) { m.Sequence = 4 },
		"other job":          func(m *Manifest) { m.Job = "0000000b-0000-4000-8000-00000000000b" },
		"huge":               func(m *Manifest) { m.Files[1].Size, m.Bytes = 1<<60, 1<<60+3 },
		"half a file": func(m *Manifest) {
			m.Files[1].Name = "work/x.tmp" // the clearing up removes such
		},
		"a name too long":      func(m *Manifest) { m.Files[0].Name = "images/" + strings.Repeat("x", 5000) },
		"a component too long": func(m *Manifest) { m.Files[0].Name = "images/" + strings.Repeat("x", 300) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, f := shelf(t), forgery(t)
			r := f.m.ref()
			spoil(&f.m)
			f.head().data(0, 0, "abc").data(1, 0, "layr").end(2)
			asked := sampleManifest()
			asked.Sequence = r.Sequence
			if err := receiveInto(t, k, asked, digest(f.manifest()), f.buf.Bytes()); err == nil {
				t.Error("it is taken")
			}
			if list, err := k.List(t.Context(), ""); err != nil || len(list) > 0 {
				t.Errorf("it is there: %v %v", list, err)
			}
			outside, err := os.ReadDir(filepath.Dir(k.store.dir))
			if err != nil || len(outside) != 1 {
				t.Errorf("beside the store: %v %v", outside, err)
			}
		})
	}
}

// What lies in the place of a fetch and is none: links and devices that somebody has put there are not followed.
func TestLeftoversAreNotTrusted(t *testing.T) {
	t.Parallel()
	a := shelf(t)
	r, m, sum := stock(t, a, 1)
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"a link for a file": func(t *testing.T, dir string) {
			if err := errors.Join(os.RemoveAll(dir+"/images/a"), os.Mkdir(dir+"/images/a", 0o700), os.Symlink("/etc/passwd", dir+"/images/a/deep.img")); err != nil {
				t.Fatal(err)
			}
		},
		"another file": func(t *testing.T, dir string) {
			if err := os.WriteFile(dir+"/images/zzz.img", nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"a longer file": func(t *testing.T, dir string) {
			if err := errors.Join(os.MkdirAll(dir+"/images/a", 0o700), os.WriteFile(dir+"/images/a/deep.img", make([]byte, 2000), 0o600)); err != nil {
				t.Fatal(err)
			}
		},
		"half a plan": func(t *testing.T, dir string) {
			if err := os.WriteFile(dir+"/"+fetchName, []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"of another digest": func(t *testing.T, dir string) {
			if err := os.WriteFile(dir+"/"+fetchName, fmt.Appendf(nil, `{"digest":%q}`, strings.Repeat("0", 64)), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := shelf(t)
			f, err := b.openFetch(t.Context(), r, FetchOptions{Digest: sum})
			if err != nil {
				t.Fatal(err)
			}
			_ = f.receive(t.Context(), io.LimitReader(bytes.NewReader(wire(t, a, r)), int64(6000))) // cut off after the manifest
			f.close()
			spoil(t, b.store.path(r.fetch()))
			o := order(r, sum)
			o.Open = from(a, r, nil)
			if _, err := b.Fetch(t.Context(), o); err != nil {
				t.Logf("the first: %v", err)
				if _, err = b.Fetch(t.Context(), o); err != nil {
					t.Fatalf("the second: %v", err)
				}
			}
			same(t, b, r, m)
		})
	}
}

func FuzzFetchStream(f *testing.F) {
	good := forgery(f)
	good.head().data(0, 0, "abc").data(1, 0, "layr").end(2)
	f.Add(good.buf.Bytes(), true)
	part := forgery(f)
	f.Add(part.head().data(0, 0, "ab").buf.Bytes(), false)
	sum, memory := digest(good.manifest()), ""
	if fi, err := os.Stat("/dev/shm"); err == nil && fi.IsDir() { // each try syncs: not on a disk, if it can be helped
		memory = "/dev/shm"
	}
	f.Fuzz(func(t *testing.T, stream []byte, seal bool) {
		dir, err := os.MkdirTemp(memory, "qosctl-fuzz")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }() // of the temporary directory
		s, err := openStore(filepath.Join(dir, "c"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.root.Close()
		k := &Keeper{o: Options{Dir: s.dir}, log: slog.New(slog.DiscardHandler), store: s, free: func(string) (int64, error) { return 1 << 30, nil }}
		if seal { // frames by their own checksums, as a hostile peer makes them
			stream = append([]byte(nil), stream...)
			reseal(stream)
		}
		err = receiveInto(t, k, good.m, sum, stream)
		if err == nil {
			if _, err := k.Verify(t.Context(), good.m.ref()); err != nil {
				t.Errorf("taken, and damaged: %v", err)
			}
		} else if list, _ := k.List(t.Context(), ""); len(list) > 0 {
			t.Errorf("refused (%v), and there", err)
		}
	})
}

// reseal gives the frames of a stream the checksums that they should have.
func reseal(b []byte) {
	for at := len(streamMagic); at+frameSize <= len(b); {
		f := parseFrame(b[at:])
		next := at + frameSize + int(f.payload)
		if f.payload > maxChunk || next > len(b) {
			return
		}
		kept := [2]byte{b[at+2], b[at+3]}
		f.put(b[at:next])
		b[at+2], b[at+3] = kept[0], kept[1]
		at = next
	}
}
