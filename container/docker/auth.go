package docker

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/registry"
)

// maxAuth bounds a file with credentials.
const maxAuth = 1 << 20

// Docker Hub: its host in the names of images, and its key in files with credentials.
const (
	hubHost  = "docker.io"
	hubIndex = "index.docker.io"
	hub      = "https://index.docker.io/v1/"
)

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
	key, found := pick(auths, reference.Domain(name))
	if !found {
		return "", nil // as docker run: the registry may want none
	}
	a := auths[key]
	a.ServerAddress = key
	return registry.EncodeAuthConfig(a)
}

// pick finds the key of a registry's host: that which is exactly the host first, then URLs, in order.
func pick(auths map[string]registry.AuthConfig, host string) (string, bool) {
	if _, ok := auths[host]; ok {
		return host, true
	}
	for _, key := range slices.Sorted(maps.Keys(auths)) {
		h := registryHost(key)
		if h == host || host == hubHost && (key == hub || h == hubIndex) {
			return key, true
		}
	}
	return "", false
}

// parseAuths reads either form of the file.
func parseAuths(text []byte) (map[string]registry.AuthConfig, error) {
	var whole struct {
		Auths       map[string]registry.AuthConfig `json:"auths"`
		CredsStore  string                         `json:"credsStore"`
		CredHelpers map[string]string              `json:"credHelpers"`
	}
	malformed := errors.New(`it is not Docker's config.json: want {"auths": {"registry.example": {"auth": "base64 of user:password"}}}`)
	if err := json.Unmarshal(text, &whole); err != nil {
		return nil, malformed
	}
	if whole.Auths == nil {
		if whole.CredsStore != "" || len(whole.CredHelpers) > 0 {
			return nil, errors.New(`the credentials are in a helper program (credsStore, credHelpers), which is not run: write them under "auths"`)
		}
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
