package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"qosctl/agent/api"
)

// File is one whose rights are looked at.
type File struct {
	Key  string // of the configuration
	Path string
}

// seen is what matters of a file's rights.
type seen struct {
	mode fs.FileMode
	uid  int
}

func lookAt(path string) (seen, error) {
	info, err := os.Stat(path)
	if err != nil {
		return seen{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return seen{}, errors.New("its owner is not known")
	}
	return seen{info.Mode(), int(st.Uid)}, nil
}

func (s seen) may(bits fs.FileMode) bool { return s.mode.Perm()&bits != 0 }

func (s seen) String() string { return fmt.Sprintf("mode %04o, user %d", s.mode.Perm(), s.uid) }

// foreign says whether a file is neither root's nor this process' user's.
func (s seen) foreign() bool { return s.uid != 0 && s.uid != os.Geteuid() }

// Bits of what others, or group and others, may.
const (
	othersRead  fs.FileMode = 0o004
	othersWrite fs.FileMode = 0o002
	groupRead   fs.FileMode = 0o040
	groupWrite  fs.FileMode = 0o020
)

// Secret looks at a file with a secret.
func Secret(f File) Probe {
	return Probe{Entry: RightsSecrets, Of: f.Key, Look: func(context.Context) []api.Check { return []api.Check{secret(f)} }}
}

func secret(f File) api.Check {
	s, err := lookAt(f.Path)
	if err == nil {
		err = unix.Faccessat(unix.AT_FDCWD, f.Path, unix.R_OK, unix.AT_EACCESS)
	}
	is := fmt.Errorf("%s: %s", f.Path, s)
	switch {
	case err != nil:
		return RightsSecrets.fault(f.Key, f.Path+" can't be read", err, "")
	case s.may(othersRead | othersWrite):
		return RightsSecrets.fault(f.Key, "everybody on this node may read or write the secret in it", is, "chmod 0600 it, and make a new secret if others may have seen this one")
	case s.may(groupWrite):
		return RightsSecrets.fault(f.Key, "its group may write it", is, "")
	case s.foreign():
		return RightsSecrets.warn(f.Key, "it is another user's, who may change it", is, "")
	case s.may(groupRead):
		return RightsSecrets.warn(f.Key, "its group may read it", is, "")
	}
	return RightsSecrets.ok(f.Key, "%s: %s", f.Path, s)
}

// ConfigFile looks at the configuration file and its directory.
func ConfigFile(path string) Probe {
	return Probe{Entry: RightsConfig, Of: path, Look: func(context.Context) []api.Check { return []api.Check{configFile(path)} }}
}

func configFile(path string) api.Check {
	s, err := lookAt(path)
	if err != nil {
		return RightsConfig.fault(path, "it can't be looked at", err, "")
	}
	dir, err := lookAt(filepath.Dir(path))
	switch {
	case err != nil:
		return RightsConfig.fault(path, "its directory can't be looked at", err, "")
	case s.may(othersWrite), s.foreign():
		return RightsConfig.fault(path, "somebody else may change it, and with it what root runs", errors.New(s.String()), "")
	case dir.may(othersWrite), dir.foreign():
		return RightsConfig.fault(path, "somebody else may replace it, and with it what root runs", fmt.Errorf("its directory: %s", dir), "")
	case s.may(othersRead):
		return RightsConfig.warn(path, "everybody on this node may read it: it names the files of secrets, and has hashes of tokens", errors.New(s.String()), "")
	}
	return RightsConfig.ok(path, "%s", s)
}

// Directory looks at a directory of the agent's; private is one that only the agent may read.
func Directory(f File, private bool) Probe {
	return Probe{Entry: RightsDirs, Of: f.Key, Look: func(context.Context) []api.Check { return []api.Check{directory(f, private)} }}
}

func directory(f File, private bool) api.Check {
	s, err := lookAt(f.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return RightsDirs.skip(f.Key, f.Path+" is not there yet: the agent makes it")
	case err != nil:
		return RightsDirs.fault(f.Key, f.Path+" can't be looked at", err, "")
	case s.may(othersWrite), s.foreign():
		return RightsDirs.fault(f.Key, "others may write in "+f.Path, errors.New(s.String()), "")
	case private && s.may(othersRead|0o001):
		return RightsDirs.warn(f.Key, "others may read in "+f.Path, errors.New(s.String()), "")
	}
	return RightsDirs.ok(f.Key, "%s: %s", f.Path, s)
}

// Sockets looks at those of a running agent: the admins', and the stand-ins'.
func Sockets(admin, standin string) Probe {
	return Probe{Entry: RightsSockets, Look: func(context.Context) []api.Check {
		return []api.Check{socket("admin", admin, false), socket("stand-ins", standin, true)}
	}}
}

func socket(of, path string, all bool) api.Check {
	s, err := lookAt(path)
	switch open := s.mode.Perm()&0o006 == 0o006; {
	case err != nil:
		return RightsSockets.fault(of, path+" is not there", err, "")
	case s.mode.Type() != fs.ModeSocket:
		return RightsSockets.fault(of, path+" is no socket", errors.New(s.mode.Type().String()), "")
	case !all && s.may(0o007):
		return RightsSockets.fault(of, "everybody on this node may do everything through "+path, errors.New(s.String()), "")
	case all && !open:
		return RightsSockets.warn(of, "tasks of other users can't use "+path, errors.New(s.String()), "")
	}
	return RightsSockets.ok(of, "%s: %s", path, s)
}

// Helpers looks at the sockets of who takes dumps, and of who starts plain processes, for a confined agent. They are not dialled: that would
// start one.
func Helpers(dumps, jobs string) Probe {
	return Probe{Entry: RightsHelper, Look: func(context.Context) []api.Check {
		return []api.Check{
			helper("checkpoint.helper", dumps, "takes dumps", "qosctl-dump.socket"),
			helper("engine.helper", jobs, "starts plain processes", "qosctl-job.socket"),
		}
	}}
}

// helper looks at the socket that a key names.
func helper(key, path, does, unit string) api.Check {
	if path == "" {
		return RightsHelper.skip(key, "the agent itself "+does)
	}
	s, err := lookAt(path)
	switch {
	case err != nil:
		return RightsHelper.fault(key, "nobody "+does+": "+path+" is not there", err, "systemctl start "+unit)
	case s.mode.Type() != fs.ModeSocket:
		return RightsHelper.fault(key, path+" is no socket", nil, "systemctl restart "+unit)
	case s.may(0o006):
		return RightsHelper.warn(key, "others may use "+path, errors.New(s.String()), "systemctl restart "+unit)
	}
	return RightsHelper.ok(key, "%s: %s", path, s)
}

// Command looks at what frameworks start as tasks.
func Command(path string) Probe {
	return Probe{Entry: RunCommand, Look: func(context.Context) []api.Check { return []api.Check{command(path)} }}
}

func command(path string) api.Check {
	s, err := lookAt(path)
	switch {
	case err != nil:
		return RunCommand.fault("", "tasks of jobs can't start: "+path, err, "")
	case !s.mode.IsRegular() || s.mode.Perm()&0o111 == 0:
		return RunCommand.fault("", "tasks of jobs can't start: "+path+" is no program", errors.New(s.String()), "")
	case s.mode.Perm()&0o001 == 0:
		return RunCommand.warn("", "tasks of users other than root can't start "+path, errors.New(s.String()), "chmod 0755 it")
	}
	return RunCommand.ok("", "%s", strings.TrimSpace(path))
}
