package docker

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	dcontainer "github.com/docker/docker/api/types/container"

	"qosctl/container"
)

// frame is a piece of a container's output as Docker sends it.
func frame(kind byte, text string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind, 0, 0, 0}, uint32(len(text))), text...)
}

// FuzzFrames reads the stream of a container's output, which may end anywhere: what is read of one output is the contents of its
// frames, and a stream that is torn is never taken for one that has ended.
func FuzzFrames(f *testing.F) {
	whole := slices.Concat(frame(frameStdout, "one\n"), frame(frameStderr, "two\n"), frame(frameStdout, ""), frame(frameStdout, "three\n"))
	f.Add(whole, uint16(0))
	f.Add(whole, uint16(5))
	f.Add(whole[:len(whole)-2], uint16(0))
	f.Add(whole[:3], uint16(0))
	f.Add(frame(frameError, "log driver is broken"), uint16(0))
	f.Add([]byte{frameStdout, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 'x'}, uint16(0))
	f.Add(frame(9, "what?"), uint16(0))
	f.Fuzz(func(t *testing.T, stream []byte, skip uint16) {
		want, ended := contents(stream)
		want = want[min(int(skip), len(want)):]
		l := &logReader{stream: container.Stdout, in: bufio.NewReader(bytes.NewReader(stream)), skip: int64(skip)}
		var got []byte
		var err error
		for buf := make([]byte, 7); err == nil; {
			var n int
			n, err = l.readOnce(buf)
			got = append(got, buf[:n]...)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("read %q, want %q (then %v)", got, want, err)
		}
		if errors.Is(err, io.EOF) != ended {
			t.Fatalf("ended with %v, want an end: %v", err, ended)
		}
	})
}

// contents is what a stream's frames hold of standard output, and whether it ends between two frames.
func contents(b []byte) (out []byte, ended bool) {
	for len(b) >= 8 {
		n := int(binary.BigEndian.Uint32(b[4:]))
		kind, rest := b[0], b[8:]
		if kind != frameStdout && kind != frameStderr {
			return out, false
		}
		have := min(n, len(rest))
		if kind == frameStdout {
			out = append(out, rest[:have]...)
		}
		if b = rest[have:]; have < n {
			return out, false
		}
	}
	return out, len(b) == 0
}

// FuzzParseAuths reads Docker's config.json: what is taken is decoded, and found by its registry's name.
func FuzzParseAuths(f *testing.F) {
	for _, s := range []string{
		`{"auths":{"registry.example":{"auth":"dXNlcjpwYXNz"}}}`, `{"registry.example":{"auth":"dXNlcjpwYXNz"}}`, `{"credsStore":"x"}`,
		`{"auths":{"a":{"auth":"!"}}}`, `{"auths":{"a":{"username":"u","password":"p"}}}`, `[]`, ``, `{"auths":null}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		auths, err := parseAuths(text)
		if err != nil && auths != nil {
			t.Fatalf("both %d registries and %v", len(auths), err)
		}
		for key, a := range auths {
			if a.Auth != "" && a.Username == "" {
				t.Errorf("%q is left encoded", key)
			}
			if _, ok := pick(auths, key); !ok {
				t.Errorf("%q is not found again", key)
			}
		}
	})
}

// FuzzOption sets an argument of docker run as a job file has it: it is set, or refused by its name.
func FuzzOption(f *testing.F) {
	for _, key := range slices.Sorted(maps.Keys(options())) {
		f.Add(key, "")
		for _, v := range []string{"1", "1m", "a=b", "a:b:ro", "type=bind,source=/a,target=/b", "80:80/tcp", "/dev/a:/dev/b:rwm", "true"} {
			f.Add(key, v)
		}
	}
	for key := range refused() {
		f.Add(key, "x")
	}
	f.Add("", "")
	f.Fuzz(func(t *testing.T, key, value string) {
		c := dcontainer.Config{Labels: map[string]string{}}
		var h dcontainer.HostConfig
		err := apply(container.Option{Key: key, Value: value}, &c, &h)
		if err == nil {
			return
		}
		if !strings.HasPrefix(err.Error(), "option --"+key+": ") {
			t.Errorf("error %q does not begin with the option's name", err)
		}
		if _, ok := refused()[key]; ok && !errors.Is(err, container.ErrNotSupported) {
			t.Errorf("refused with %v", err)
		}
	})
}
