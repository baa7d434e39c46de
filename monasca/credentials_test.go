package monasca

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const thesisCredentials = `{
  "keystone_url": "http://10.0.0.1:35357",
  "monocasca_client_url": "http://10.0.0.2:8070",
  "username": "mini-mon", "password": "s3cret word", "project_name": "myprojectname"
}`

func TestParseCredentials(t *testing.T) {
	t.Parallel()
	thesis := Credentials{
		Keystone: "http://10.0.0.1:35357", Monasca: "http://10.0.0.2:8070", Username: "mini-mon", Password: "s3cret word", Project: "myprojectname",
	}
	tests := map[string]struct {
		file string
		want Credentials
		err  string
	}{
		"the thesis' own":           {file: thesisCredentials, want: thesis},
		"with versions and slashes": {file: strings.NewReplacer("35357", "35357/v3/auth/tokens", "8070", "8070/v2.0/").Replace(thesisCredentials), want: thesis},
		"without schemes":           {file: strings.ReplaceAll(thesisCredentials, "http://", ""), want: thesis},
		"the other spelling":        {file: strings.Replace(thesisCredentials, "monocasca", "monasca", 1), want: thesis},
		"no JSON":                   {file: "s3cret word", err: "not JSON of the form"},
		"another kind":              {file: `{"password": 5}`, err: "not JSON of the form"},
		"nothing":                   {file: "{}", err: "\"keystone_url\" is missing\n\"username\" is missing\n\"password\" is missing\n\"project_name\" is missing"},
		"a password in the address": {file: strings.Replace(thesisCredentials, "//10.0.0.1", "//u:s3cret@10.0.0.1", 1), err: "keystone_url: must not have a user"},
		"a query":                   {file: strings.Replace(thesisCredentials, ":8070", ":8070?a=b", 1), err: "monocasca_client_url: must not have a query"},
		"no address":                {file: strings.Replace(thesisCredentials, "http://10.0.0.2:8070", "ftp://x", 1), err: "monocasca_client_url: must be a URL"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parseCredentials([]byte(tt.file))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "s3cret") {
					t.Errorf("got %v, want something with %q and no secret", err, tt.err)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Error(err, diff)
			}
		})
	}
}

func TestLoadCredentials(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := LoadCredentials(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	long := filepath.Join(dir, "long")
	if err := os.WriteFile(long, bytes.Repeat([]byte(" "), maxCredentials+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadCredentials(long); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("got %v", err)
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	c, err := parseCredentials([]byte(thesisCredentials))
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("x", "credentials", c, "pointer", &c, "secret", c.Password)
	}
	data, err := json.Marshal(map[string]any{"c": c, "p": &c, string("k"): c.Password})
	if err != nil {
		t.Fatal(err)
	}
	text := log.String() + string(data) + fmt.Sprintf("%v %+v %#v %s %q %x %v %+v", c, c, c, c, c.Password, c.Password, &c, []any{c.Password})
	for _, secret := range []string{"s3cret", fmt.Sprintf("%x", "s3cret")} {
		if strings.Contains(text, secret) {
			t.Errorf("the password is shown: %s", text)
		}
	}
	if n := strings.Count(text, masked); n < 8 {
		t.Errorf("masked %d times only: %s", n, text)
	}
	if Secret("").String() != "" {
		t.Error("no secret is shown as one")
	}
}

func FuzzParseCredentials(f *testing.F) {
	f.Add([]byte(thesisCredentials))
	f.Add([]byte(`{"keystone_url":"http://[::1]:5000/v3","username":"u","password":"p","project_name":"q"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseCredentials(data)
		if err != nil {
			return
		}
		again := c
		if err := again.check(); err != nil || again != c {
			t.Fatalf("checked again: %v: %+v, then %+v", err, c, again)
		}
	})
}
