package docker

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/registry"
)

// maxAuth bounds a file with credentials.
const maxAuth = 1 << 20

// hub is the key of Docker Hub in files with credentials.
const hub = "https://index.docker.io/v1/"

func newLines(r io.Reader) *json.Decoder { return json.NewDecoder(r) }

// registryAuth finds the credentials for an image's registry in Docker's config.json, or in its older form without "auths" (.dockercfg).
// What is in the file is never in an error.
func registryAuth(file, ref string) (string, error) {
	if file == "" {
		return "", nil
	}
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("credentials for registries: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(f, maxAuth))
	if err != nil {
		return "", fmt.Errorf("credentials for registries: %w", err)
	}
	auths, err := parseAuths(text)
	if err != nil {
		return "", fmt.Errorf("credentials for registries in %s: %w", file, err)
	}
	name, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", fmt.Errorf("image %q: %w", ref, err)
	}
	host := reference.Domain(name)
	for key, a := range auths {
		if registryHost(key) != host && (host != "docker.io" || key != hub && registryHost(key) != "index.docker.io") {
			continue
		}
		a.ServerAddress = key
		return registry.EncodeAuthConfig(a)
	}
	return "", nil
}

// parseAuths reads either form of the file.
func parseAuths(text []byte) (map[string]registry.AuthConfig, error) {
	var whole struct {
		Auths map[string]registry.AuthConfig `json:"auths"`
	}
	malformed := errors.New(`it is not Docker's config.json: want {"auths": {"registry.example": {"auth": "base64 of user:password"}}}`)
	if err := json.Unmarshal(text, &whole); err != nil {
		return nil, malformed
	}
	if whole.Auths == nil {
		if err := json.Unmarshal(text, &whole.Auths); err != nil {
			return nil, malformed
		}
	}
	for key, a := range whole.Auths {
		if a.Auth == "" || a.Username != "" {
			continue
		}
		plain, err := base64.StdEncoding.DecodeString(a.Auth)
		user, password, ok := strings.Cut(strings.TrimRight(string(plain), "\x00"), ":")
		if err != nil || !ok {
			return nil, fmt.Errorf("auth of %s is not base64 of user:password", key)
		}
		a.Username, a.Password, a.Auth = user, password, ""
		whole.Auths[key] = a
	}
	return whole.Auths, nil
}

// registryHost is the host in a key of the file, which may be a URL.
func registryHost(key string) string {
	_, rest, found := strings.Cut(key, "://")
	if !found {
		rest = key
	}
	host, _, _ := strings.Cut(rest, "/")
	return host
}
