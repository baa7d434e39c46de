package programs

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLines(t *testing.T) {
	t.Parallel()
	const at = " 1795397115159525023"
	for text, want := range map[string]int{
		"":                                         0,
		"1" + at + "\n2" + at + " x y\n3" + at:     2, // the last is on its way
		"1" + at + "\n3" + at + "\n":               -1,
		"1" + at + "\n1" + at + "\n":               -1,
		"2" + at + "\n":                            -1,
		"1" + at + "\n2 17953971151595\n":          -1,
		"1" + at + "\n2 1795397115159525023 x\n\n": -1,
	} {
		list, err := Lines(strings.NewReader(text))
		if want < 0 && !errors.Is(err, ErrOutput) || want >= 0 && (err != nil || len(list) != want) {
			t.Errorf("%q: %d lines, %v", text, len(list), err)
		}
	}
}

func TestGap(t *testing.T) {
	t.Parallel()
	var list []Line
	for n, ms := range []int64{0, 1, 2, 700, 701} {
		list = append(list, Line{N: int64(n) + 1, At: time.UnixMilli(ms)})
	}
	if gap, before := Gap(list); gap != 698*time.Millisecond || before != 3 {
		t.Errorf("got %s after line %d", gap, before)
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add("1 1795397115159525023\n")
	f.Add("12 1795397115159525023 1 2 3\n")
	f.Fuzz(func(_ *testing.T, text string) {
		if l, err := ParseLine(text); err == nil {
			_, _, _, _ = Burned(l)
			_ = Writer([]Line{{N: max(0, l.N%1000), More: l.More}})
		}
	})
}

// run runs a program for a few steps and returns its output.
func run(t *testing.T, argv ...string) []Line {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v: %s", argv, err, &errs)
	}
	list, err := Lines(&out)
	if err != nil || len(list) == 0 {
		t.Fatalf("%v: %v, %d lines", argv, err, len(list))
	}
	return list
}

func TestProgramsRunUnharmed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, err := Build(t.Context(), dir)
	if err != nil && !errors.Is(err, ErrNoCompiler) {
		t.Fatal(err)
	}
	base := filepath.Join(dir, "base")
	if err := os.MkdirAll(filepath.Join(base, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"base", "gone", "dir/in"} {
		if err := os.WriteFile(filepath.Join(base, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	steps := []string{"-every", "5ms", "-count", "20"}
	for name, args := range map[string][]string{
		"counter": {"-mib", "2"}, "burn": {"-threads", "2"}, "files": {"-dir", filepath.Join(dir, "files"), "-base", base},
		"listen": {"-address", "127.0.0.1:0"}, "pair": {"-address", "127.0.0.1:0"}, "locks": {"-dir", dir}, "tty": {"-want=false"}, "writer": nil,
	} {
		list := run(t, append(append([]string{p[Job], name}, args...), steps...)...)
		if len(list) != 20 {
			t.Errorf("%s: %d lines", name, len(list))
		}
		switch name {
		case "writer":
			if err := Writer(list); err != nil {
				t.Error(err)
			}
		case "burn":
			if cpu, work, restores, err := Burned(list[19]); err != nil || cpu <= 0 || work <= 0 || restores != 0 {
				t.Errorf("burn: %v: %s, %d, %d", list[19], cpu, work, restores)
			}
		}
	}
	if errors.Is(err, ErrNoCompiler) {
		t.Skip("the C programs were not built: ", err)
	}
	run(t, p[CounterStatic], "1000", "20")
	run(t, p[CounterDynamic], "1000", "20")
	run(t, p[OMP], "4", "2", "5")
	testImage(t, p)
}

// testImage looks whether the dynamically linked programs run in the image's root file system alone.
func testImage(t *testing.T, p Programs) {
	t.Helper()
	var one, two bytes.Buffer
	if err := errors.Join(p.Tar(&one, nil), p.Tar(&two, nil)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("the same programs make two images")
	}
	root := t.TempDir()
	for in := tar.NewReader(&one); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(root, h.Name)
		if h.Typeflag == tar.TypeDir {
			if err := os.Mkdir(name, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		b, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("a look into the image needs root (chroot)")
	}
	run(t, "chroot", root, OMP, "1", "2", "3")
	run(t, "chroot", root, CounterDynamic, "1000", "3")
	run(t, "chroot", root, CounterStatic, "1000", "3")
}
