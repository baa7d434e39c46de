package agent

import (
	"maps"
	"path/filepath"
	"regexp"
	"strings"
)

// credentialPrefix begins the name of a systemd credential, where the path of a file is wanted.
const credentialPrefix = "credential:"

var credentialName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

// withCredentials gives keys that name a credential the path of its file.
func (c Config) withCredentials(dir string) (Config, error) {
	var missing []string
	at := func(value *string) {
		name, ok := strings.CutPrefix(*value, credentialPrefix)
		if !ok {
			return
		}
		if dir == "" {
			missing = append(missing, name)
		}
		*value = filepath.Join(dir, name)
	}
	for _, file := range c.files() {
		at(file)
	}
	c.Frameworks = maps.Clone(c.Frameworks)
	for name, f := range c.Frameworks {
		for _, file := range f.files() {
			at(file)
		}
		c.Frameworks[name] = f
	}
	if len(missing) > 0 {
		return c, refuse(codeInvalid, "no credentials were handed over, and %s%s is one", credentialPrefix, missing[0]).
			hint("systemd hands them over: LoadCredential=" + missing[0] + ":/path in the agent's unit")
	}
	return c, nil
}

// files are the keys that name a file.
func (c *Config) files() []*string {
	return []*string{
		&c.TokenFile, &c.TLS.CertFile, &c.TLS.KeyFile, &c.TLS.ClientCAFile, &c.Cluster.KeyFile, &c.Cluster.CAFile, &c.Cluster.CertFile, &c.Cluster.CertKeyFile,
		&c.Mesos.MasterCAFile, &c.Mesos.MasterPasswordFile, &c.Monasca.CredentialsFile, &c.Monasca.CAFile,
	}
}

func (f *FrameworkConfig) files() []*string {
	return []*string{&f.CAFile, &f.PasswordFile, &f.TokenFile, &f.CredentialsFile}
}
