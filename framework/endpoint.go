package framework

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"
)

// DefaultTimeout is how long one request may take, its body included, when the endpoint says nothing.
const DefaultTimeout = 10 * time.Second

// maxSecretFile bounds credential, password and token files, in bytes.
const maxSecretFile = 64 << 10

// Secret is text that is never printed: not by fmt, not by log/slog, not as JSON.
type Secret string

// String hides the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "<secret>"
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return s.String() }

// LogValue hides the secret from log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON hides the secret from JSON.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// Endpoint says where a framework is and how to sign in there. Either basic (Username with Password or PasswordFile) or
// bearer (TokenFile), or neither. Both files are read again for each request, so that they may be rotated.
type Endpoint struct {
	Name         string   // of the endpoint, for errors: "marathon"
	URLs         []string // of all its instances: http://host:8080, a path prefix is kept; at least one
	CAFile       string   // PEM; "": the system's
	Username     string
	Password     Secret
	PasswordFile string
	TokenFile    string
	Timeout      time.Duration // of one request, its body included; 0: DefaultTimeout
	Observe      Observer      `json:"-"` // nil: nobody is told
}

// Validate names every fault of the endpoint.
func (e Endpoint) Validate() error {
	var errs []error
	if len(e.URLs) == 0 {
		errs = append(errs, errors.New("no URL: give at least one, such as http://127.0.0.1:8080"))
	}
	for _, raw := range e.URLs {
		if _, err := parseBase(raw); err != nil {
			errs = append(errs, err)
		}
	}
	if e.Password != "" && e.PasswordFile != "" {
		errs = append(errs, errors.New("both a password and a password file: give one"))
	}
	if (e.Password != "" || e.PasswordFile != "") && e.Username == "" {
		errs = append(errs, errors.New("a password without a user name: give the user name too"))
	}
	if e.TokenFile != "" && e.Username != "" {
		errs = append(errs, errors.New("both a user name and a token file: give one kind of credentials"))
	}
	if e.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout %s is negative", e.Timeout))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("endpoint %q: %w", e.Name, err)
	}
	return nil
}

// parseBase parses the URL of one instance. The errors never repeat what stands before an @.
func parseBase(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" && !strings.Contains(raw, "@"):
		return nil, errors.New("URL can't be understood: write http://host:port")
	case u.User != nil || u.Host == "":
		return nil, errors.New("URL carries credentials: write them as user name and password file instead")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("URL of %s has scheme %q: write http:// or https://", u.Host, u.Scheme)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("URL of %s has a query or a fragment: leave it out", u.Host)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = strings.TrimRight(u.RawPath, "/")
	return u, nil
}

// LoadCredentials reads a credentials file of the thesis: {"url": "http://host:port", "user": "…", "password": "…"}.
// Name and timeouts are the caller's to set. Errors never show what the file holds.
func LoadCredentials(path string) (Endpoint, error) {
	data, err := readSecretFile(path)
	if err != nil {
		return Endpoint{}, fmt.Errorf("read credentials: %w", err)
	}
	var file struct {
		URL      string  `json:"url"`
		User     string  `json:"user"`
		Password *string `json:"password"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		// The decoder's own error may quote the file.
		return Endpoint{}, fmt.Errorf(`read credentials %s: not JSON of the form {"url": …, "user": …, "password": …}`, path)
	}
	if file.URL == "" {
		return Endpoint{}, fmt.Errorf(`read credentials %s: "url" is missing`, path)
	}
	if !strings.Contains(file.URL, "://") {
		file.URL = "http://" + file.URL
	}
	e := Endpoint{URLs: []string{file.URL}, Username: file.User}
	if file.Password != nil && file.User != "" {
		e.Password = Secret(*file.Password)
	}
	if err := e.Validate(); err != nil {
		return Endpoint{}, fmt.Errorf("read credentials %s: %w", path, err)
	}
	return e, nil
}

// readSecretFile reads a small file. What a larger one holds is nobody's credentials.
func readSecretFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSecretFile {
		return nil, fmt.Errorf("%s is larger than %d KiB", path, maxSecretFile>>10)
	}
	return data, nil
}

// authorization returns the Authorization header's value, "" for none.
func (e Endpoint) authorization() (string, error) {
	switch {
	case e.TokenFile != "":
		token, err := readSecretFile(e.TokenFile)
		if err != nil {
			return "", fmt.Errorf("read token: %w", err)
		}
		return "Bearer " + strings.TrimSpace(string(token)), nil
	case e.Username != "":
		password := string(e.Password)
		if e.PasswordFile != "" {
			data, err := readSecretFile(e.PasswordFile)
			if err != nil {
				return "", fmt.Errorf("read password: %w", err)
			}
			password = strings.TrimRight(string(data), "\r\n")
		}
		return basic(e.Username, password), nil
	}
	return "", nil
}
