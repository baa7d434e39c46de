package bundle_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"qosctl/agent/bundle"
	"qosctl/agent/bundle/bundletest"
)

func TestSecretsAreMaskedByTheirKeys(t *testing.T) {
	t.Parallel()
	m := bundle.NewMasker()
	for in, want := range map[string]string{
		`level=INFO msg="signed in" password=hunter2 user=qosctl`:                `level=INFO msg="signed in" password=<secret> user=qosctl`,
		`QOSCTL_SECRET=abcdef QOSCTL_JOB=1`:                                      `QOSCTL_SECRET=<secret> QOSCTL_JOB=1`,
		`{"password":"a b\"c","user":"u"}`:                                       `{"password":"<secret>","user":"u"}`,
		`body="{\"password\":\"abc\",\"user\":\"u\"}"`:                           `body="{\"password\":<secret>,\"user\":\"u\"}"`,
		"token: 'x y'\ntoken_file: /etc/qosctl/token\n":                          "token: '<secret>'\ntoken_file: /etc/qosctl/token\n",
		`Authorization: Basic dXNlcjpwYXNz`:                                      `Authorization: <secret> <secret>`,
		`it sent Bearer abc.def-123 to us`:                                       `it sent Bearer <secret> to us`,
		`get http://user:p@ss:w@rd@host:8080/x@y`:                                `get http://<secret>@host:8080/x@y`,
		`get http://user:pass@host:8080/x?api_key=1234`:                          `get http://<secret>@host:8080/x?api_key=<secret>`,
		`hash: sha256:0123`:                                                      `hash: <secret>`,
		`qosctl_monasca_tokens_total 12`:                                         `qosctl_monasca_tokens_total 12`,
		`{"key_file":"/etc/qosctl/cluster.key"}`:                                 `{"key_file":"/etc/qosctl/cluster.key"}`,
		"-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\n-----END EC PRIVATE KEY-----\n": "<secret>\n",
		`cpu=0.5 job="/a" took=12ms`:                                             `cpu=0.5 job="/a" took=12ms`,
		`clusterKey=abc x-access-key: def`:                                       `clusterKey=<secret> x-access-key: <secret>`,
	} {
		if got := string(m.Text([]byte(in))); got != want {
			t.Errorf("%s\n%s\nwant\n%s", in, got, want)
		}
	}
}

func TestEnvironmentsKeepTheirNamesAlone(t *testing.T) {
	t.Parallel()
	m := bundle.NewMasker()
	got := string(m.JSON([]byte(`{"id":12345678901234567890,"env":{"DB":"x","N":1},"a":[{"environmentVariables":[{"name":"P","value":"q"}]},{"env":["K=v","bare"]}],"credentials":{"user":"u","password":"p"}}`)))
	for _, want := range []string{`"id": 12345678901234567890`, `"DB": "<secret>"`, `"N": "<secret>"`, `"name": "P"`, `"value": "<secret>"`, `"K=<secret>"`, `"user": "u"`, `"password": "<secret>"`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in %s", want, got)
		}
	}
	if strings.Contains(got, "bare") {
		t.Error(got)
	}
	if got := string(m.JSON([]byte("not JSON, token=abc"))); got != "not JSON, token=<secret>" {
		t.Error(got)
	}
	if got := string(m.YAML([]byte("a:\n  password: x\n  token_file: /x\n  list: [1]\n"))); got != "a:\n    password: <secret>\n    token_file: /x\n    list: [1]\n" {
		t.Error(got)
	}
}

func TestSecretsAreMaskedByTheirValues(t *testing.T) {
	t.Parallel()
	planted := map[string]string{
		"key": "c2VjcmV0LWtleS1vZi10aGUtY2x1c3Rlci0xMjM0NTY=", "old key": "00112233445566778899aabbccddeeff", "token": "tok&en/with?odd=characters\"x", "password": "p\\ss wörd", "registry": "hub-password",
	}
	dir := t.TempDir()
	m := bundle.NewMasker(planted["token"])
	for name, text := range map[string]string{
		"ring": "# the cluster's\n" + planted["key"] + "\n" + planted["old key"] + "\n",
		"cred": string(marshal(t, map[string]string{"url": "http://h:1", "user": "admin", "password": planted["password"]})),
		"hub":  string(marshal(t, map[string]any{"auths": map[string]any{"hub": map[string]string{"auth": "dXNlcjpodWItcGFzc3dvcmQ="}}})), // user:hub-password
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), m.AddFile(path)); err != nil {
			t.Fatal(err)
		}
	}
	for _, secret := range planted {
		text := "it said " + secret + " and " + string(marshal(t, []string{"x" + secret + "y"}))
		bundletest.Scan(t, "the text", m.Text([]byte(text)), planted)
		bundletest.Scan(t, "the JSON", m.JSON(marshal(t, map[string]string{"text": secret})), planted)
		var read struct{ Text string }
		if out := m.JSON(marshal(t, map[string]string{"text": "x " + secret})); json.Unmarshal(out, &read) != nil || strings.Contains(read.Text, secret) {
			t.Errorf("the JSON says %s", out)
		}
		if out := m.Text(fmt.Appendf(nil, "msg=%q", "x "+secret)); strings.Contains(string(out), strings.Trim(strconv.Quote(secret), `"`)) {
			t.Errorf("the line of a log says %s", out)
		}
	}
	if got := string(m.Text([]byte("http://h:1 of admin"))); got != "http://h:1 of admin" {
		t.Errorf("what is no secret is masked: %s", got)
	}
	if err := m.AddFile(filepath.Join(dir, "none")); err == nil {
		t.Error("a file that is not there is read")
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func text(s string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) { return []byte(s), nil }
}

func TestABundleIsWholeThoughPartsFail(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "b.tar.gz")
	if err := os.WriteFile(file, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	parts := []bundle.Part{
		{Name: "good.txt", Collect: text("hello\n\n")},
		{Name: "fails.json", Kind: bundle.JSON, Collect: func(context.Context) ([]byte, error) { return nil, errors.New("no agent; token=abcd") }},
		{Name: "half.txt", Collect: func(context.Context) ([]byte, error) { return []byte("half"), errors.New("broke off") }},
		{Name: "hangs.txt", Collect: func(ctx context.Context) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }},
		{Name: "long.txt", Collect: text(strings.Repeat("x", 95) + " password=hunter2")},
		{Name: "more.txt", Collect: text(strings.Repeat("y", 1000))},
		{Name: "left.txt", Collect: text("nothing is left for it")},
	}
	m, err := bundle.Write(t.Context(), file, parts, bundle.Options{Root: "r", Now: time.Unix(1700000000, 0), PartTime: 20 * time.Millisecond, MaxPart: 110, MaxAll: 200, Notes: []string{"secret=abcd"}})
	if err != nil {
		t.Fatal(err)
	}
	files := bundletest.Open(t, file)
	if string(files["good.txt"]) != "hello\n" || string(files["half.txt"]) != "half\n" || len(files["long.txt"]) != 110 || len(files["more.txt"]) > 100 || files["left.txt"] != nil || files["fails.json"] != nil {
		t.Errorf("%q", files)
	}
	var noted bundle.Manifest
	if err := json.Unmarshal(files["manifest.json"], &noted); err != nil || len(noted.Parts) != len(parts) || len(m.Parts) != len(parts) {
		t.Fatalf("%v: %s", err, files["manifest.json"])
	}
	for i, want := range map[int]string{1: "no agent; token=<secret>", 2: "broke off", 3: "deadline exceeded", 6: "the bundle is full"} {
		if !strings.Contains(noted.Parts[i].Error, want) {
			t.Errorf("%+v, want %s", noted.Parts[i], want)
		}
	}
	if !noted.Parts[4].Cut || noted.Parts[0].Cut || noted.Notes[0] != "secret=<secret>" {
		t.Errorf("%+v", noted)
	}
	for name, text := range files {
		bundletest.Scan(t, name, text, map[string]string{"a password": "hunter2", "a token": "abcd"})
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// A bundle that can't be finished leaves the old one, and nothing else.
func TestABundleIsThereWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "b.tar.gz")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	_, err := bundle.Write(ctx, file, []bundle.Part{{Name: "x", Collect: func(context.Context) ([]byte, error) { stop(); return []byte("x"), nil }}}, bundle.Options{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	left, err := os.ReadDir(dir)
	old, rerr := os.ReadFile(file)
	if err != nil || rerr != nil || len(left) != 1 || string(old) != "old" {
		t.Errorf("left %v, %q", left, old)
	}
	if _, err := bundle.Write(t.Context(), filepath.Join(dir, "none", "b"), nil, bundle.Options{}); err == nil {
		t.Error("written into a directory that is not there")
	}
}
