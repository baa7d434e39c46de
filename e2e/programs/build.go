package programs

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed c/counter.c
var counterC []byte

//go:embed c/omp.c
var ompC []byte

//go:embed c/vforker.c
var vforkerC []byte

// Where the programs stand in the image.
const (
	Job            = "/bin/job"             // job SUB-COMMAND [flags]; static
	CounterStatic  = "/bin/counter-static"  // counter-static [MICROSECONDS [COUNT]]
	CounterDynamic = "/bin/counter-dynamic" // likewise
	OMP            = "/bin/omp"             // omp [MIB [THREADS [COUNT]]]
	Vforker        = "/bin/vforker"         // vforker [MICROSECONDS]; static
)

// Base is the image's directory with the files base and gone and the directory dir: what `job files -base` changes.
const Base = "/usr/share/programs"

// TermCode is the exit status of a program that was ended by SIGTERM; AmissCode that of one that found something not as it was.
const (
	TermCode  = 43
	AmissCode = 3
)

// ErrNoCompiler says that there is no C compiler.
var ErrNoCompiler = errors.New("no C compiler (apt-get install gcc libc6-dev)")

// Programs are built programs: path in the image → file of this machine.
type Programs map[string]string

// Build builds all programs into a directory. It is called in this module's tree; without a C compiler it is ErrNoCompiler beside what could
// be built.
func Build(ctx context.Context, dir string) (Programs, error) {
	p := Programs{}
	if err := BuildJob(ctx, filepath.Join(dir, "job")); err != nil {
		return nil, err
	}
	p[Job] = filepath.Join(dir, "job")
	cc, err := exec.LookPath("gcc")
	if err != nil {
		return p, fmt.Errorf("build C programs: %w", ErrNoCompiler)
	}
	for _, c := range []struct {
		path   string
		source []byte
		flags  []string
	}{
		{CounterStatic, counterC, []string{"-static"}},
		{CounterDynamic, counterC, nil},
		{OMP, ompC, []string{"-fopenmp"}},
		{Vforker, vforkerC, []string{"-static"}},
	} {
		file := filepath.Join(dir, filepath.Base(c.path))
		if err := os.WriteFile(file+".c", c.source, 0o600); err != nil {
			return p, fmt.Errorf("build %s: %w", c.path, err)
		}
		args := append([]string{"-O2", "-Wall", "-o", file, file + ".c"}, c.flags...)
		if out, err := exec.CommandContext(ctx, cc, args...).CombinedOutput(); err != nil {
			return p, fmt.Errorf("build %s: %w: %s", c.path, err, out)
		}
		p[c.path] = file
	}
	return p, nil
}

// BuildJob builds the Go program alone, static.
func BuildJob(ctx context.Context, file string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file, "qosctl/e2e/programs/job")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build job: %w: %s", err, out)
	}
	return nil
}
