package cli

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"qosctl/agent/api"
	"qosctl/agent/pki"
)

// systemSocket is where an agent started by systemd is found.
const systemSocket = "/run/qosctl/qosctl.sock"

// client makes a client of the agent that was named, else of the one found on this machine.
func (a *app) client(ctx context.Context) (*api.Client, error) {
	address := a.agent
	if address == "" {
		address = a.getenv("QOSCTL_AGENT")
	}
	if address == "" {
		address = findSocket(ctx, []string{systemSocket, filepath.Join(a.devDir(), "run", "qosctl.sock")})
	}
	token, err := a.token()
	if err != nil {
		return nil, err
	}
	secure, err := a.tls(address)
	if err != nil {
		return nil, err
	}
	c, err := api.New(api.Options{Address: address, Token: token, TLS: secure})
	if err != nil {
		return nil, &usageError{err, ""}
	}
	return c, nil
}

// token reads the token for an agent's TCP address.
func (a *app) token() (string, error) {
	path := a.tokenFile
	if path == "" {
		path = a.getenv("QOSCTL_TOKEN_FILE")
	}
	if path == "" {
		return "", nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// tls is for an agent's https address; nil: for any other.
func (a *app) tls(address string) (*tls.Config, error) {
	if !strings.HasPrefix(address, "https://") {
		if a.ca != "" || a.cert != "" || a.key != "" {
			return nil, &usageError{fmt.Errorf("--ca, --cert and --key are for https addresses; the agent's is %s", address), ""}
		}
		return nil, nil
	}
	ca, cert, key := cmp.Or(a.ca, a.getenv("QOSCTL_CA")), cmp.Or(a.cert, a.getenv("QOSCTL_CERT")), cmp.Or(a.key, a.getenv("QOSCTL_KEY"))
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pool, err := pki.ReadPool(ca)
		if err != nil {
			return nil, fmt.Errorf("read whom to trust: %w", err)
		}
		c.RootCAs = pool
	}
	if (cert == "") != (key == "") {
		return nil, &usageError{errors.New("--cert and --key belong together"), ""}
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("read your certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// findSocket returns the first socket that somebody listens on, else the first that is there, else the first.
// A socket in a directory that others could have made is not trusted.
func findSocket(ctx context.Context, candidates []string) string {
	there := ""
	for _, path := range candidates {
		if !ownDir(filepath.Dir(path)) {
			continue
		}
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path)
		if err == nil {
			_ = c.Close() // nothing was said on it
			return path
		}
		if there == "" && !errors.Is(err, os.ErrNotExist) {
			there = path
		}
	}
	if there == "" {
		return candidates[0]
	}
	return there
}

// ownDir says whether a directory is there and belongs to root or to the caller.
func ownDir(dir string) bool {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (stat.Uid == 0 || int(stat.Uid) == os.Getuid())
}

// devDir is the default directory of `qosctl dev`.
func (a *app) devDir() string {
	base := a.getenv("XDG_RUNTIME_DIR")
	if base == "" {
		base = "/tmp"
	}
	return filepath.Join(base, "qosctl-dev-"+strconv.Itoa(os.Getuid()))
}

// shortHash tells directories apart where their whole path doesn't fit.
func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:4])
}

// findJob describes the job of a name, an ID, or a prefix of either that only one job has.
func findJob(ctx context.Context, c *api.Client, ref string) (api.Job, error) {
	j, err := c.Job(ctx, ref)
	if !api.IsStatus(err, http.StatusNotFound) || ref == "" {
		return j, err
	}
	jobs, listErr := c.Jobs(ctx, true)
	if listErr != nil {
		return api.Job{}, listErr
	}
	found := matches(jobs, ref)
	switch len(found) {
	case 0:
		return api.Job{}, withHint(&api.StatusError{Body: api.Error{Status: http.StatusNotFound, Code: api.CodeNotFound, Text: fmt.Sprintf("there is no job %q", ref)}},
			"`qosctl jobs --all` lists them")
	case 1:
		return c.Job(ctx, found[0].ID) // the list leaves details out
	}
	var names []string
	for _, j := range found {
		names = append(names, j.Name+" ("+j.ID+")")
	}
	return api.Job{}, withHint(&api.StatusError{Body: api.Error{Status: http.StatusNotFound, Code: api.CodeNotFound, Text: fmt.Sprintf("%q means more than one job", ref)}},
		"it may be "+strings.Join(names, ", "))
}

// matches are the jobs that a name without its leading slash, or a prefix of name or ID, means. Of several jobs of one name the newest counts.
func matches(jobs []api.Job, ref string) []api.Job {
	newest := make(map[string]api.Job)
	var byID []api.Job
	for _, j := range jobs {
		if strings.HasPrefix(j.ID, strings.ToLower(ref)) && len(ref) >= 4 {
			byID = append(byID, j)
		}
		if !strings.HasPrefix(j.Name, ref) && !strings.HasPrefix(j.Name, "/"+ref) {
			continue
		}
		if n, ok := newest[j.Name]; !ok || j.Submitted.After(n.Submitted) {
			newest[j.Name] = j
		}
	}
	for _, name := range []string{ref, "/" + ref} {
		if j, ok := newest[name]; ok {
			return []api.Job{j}
		}
	}
	found := byID
	for _, j := range newest {
		if !slices.ContainsFunc(found, func(f api.Job) bool { return f.ID == j.ID }) {
			found = append(found, j)
		}
	}
	slices.SortFunc(found, func(a, b api.Job) int { return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID)) })
	return found
}
