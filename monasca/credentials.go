package monasca

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
)

// maxCredentials bounds a credentials file, in bytes.
const maxCredentials = 64 << 10

// defaultDomain is the id of the domain that every Keystone has.
const defaultDomain = "default"

// Credentials say where Keystone and Monasca are and who sends.
type Credentials struct {
	Keystone string // http://host:5000, with or without /v3
	Monasca  string // http://host:8070, with or without /v2.0; "": what Keystone's catalogue says
	Username string
	Password Secret
	Project  string
	Domain   string // name of the user's and the project's domain; "": the one with the id "default"
}

// LoadCredentials reads a credentials file of the thesis:
//
//	{"keystone_url": …, "monocasca_client_url": …, "username": …, "password": …, "project_name": …}
//
// (the second key is spelt so there; "monasca_client_url" means the same). "domain_name" may be added. Errors never show what the file
// holds.
func LoadCredentials(path string) (Credentials, error) {
	data, err := readSmall(path, maxCredentials)
	if err != nil {
		return Credentials{}, fmt.Errorf("read Monasca's credentials: %w", err)
	}
	c, err := parseCredentials(data)
	if err != nil {
		return Credentials{}, fmt.Errorf("read Monasca's credentials %s: %w", path, err)
	}
	return c, nil
}

// parseCredentials reads the file's text.
func parseCredentials(data []byte) (Credentials, error) {
	var file struct {
		Keystone  string `json:"keystone_url"`
		Monocasca string `json:"monocasca_client_url"`
		Monasca   string `json:"monasca_client_url"`
		Username  string `json:"username"`
		Password  string `json:"password"`
		Project   string `json:"project_name"`
		Domain    string `json:"domain_name"`
	}
	if err := json.Unmarshal(data, &file); err != nil { // the decoder's own error may quote the file
		return Credentials{}, errors.New(`not JSON of the form {"keystone_url": …, "monocasca_client_url": …, "username": …, "password": …, "project_name": …}`)
	}
	c := Credentials{
		Keystone: file.Keystone, Monasca: file.Monocasca, Username: file.Username, Password: Secret(file.Password), Project: file.Project, Domain: file.Domain,
	}
	if c.Monasca == "" {
		c.Monasca = file.Monasca
	}
	return c, c.check()
}

// check names every fault, and brings the addresses into one form.
func (c *Credentials) check() error {
	var errs []error
	for _, f := range []struct{ key, value string }{
		{"keystone_url", c.Keystone}, {"username", c.Username}, {"password", string(c.Password)}, {"project_name", c.Project},
	} {
		if f.value == "" {
			errs = append(errs, fmt.Errorf("%q is missing", f.key))
		}
	}
	var err error
	if c.Keystone != "" {
		if c.Keystone, err = cleanURL(c.Keystone, "/auth/tokens", "/v3"); err != nil {
			errs = append(errs, fmt.Errorf("keystone_url: %w", err))
		}
	}
	if c.Monasca != "" {
		if c.Monasca, err = cleanURL(c.Monasca, "/metrics", "/v2.0"); err != nil {
			errs = append(errs, fmt.Errorf("monocasca_client_url: %w", err))
		}
	}
	return errors.Join(errs...)
}

// cleanURL checks an address and returns it without a slash and without these endings. Errors don't show it: it may hold a password.
func cleanURL(text string, endings ...string) (string, error) {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return "", errors.New("must be a URL such as http://host:port")
	case u.User != nil:
		return "", errors.New("must not have a user or password in it")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", errors.New("must not have a query or fragment")
	}
	text = strings.TrimRight(u.Scheme+"://"+u.Host+u.EscapedPath(), "/")
	for _, e := range endings {
		text = strings.TrimRight(strings.TrimSuffix(text, e), "/")
	}
	return text, nil
}

// readSmall reads a file of at most so many bytes.
func readSmall(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, most)
	}
	return data, nil
}
