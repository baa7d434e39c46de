package e2e

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// requests goes through all routes with all credentials, on the network and on the sockets.
func (p *planted) requests() {
	p.t.Helper()
	alice, err := tls.LoadX509KeyPair(filepath.Join(p.files, "server.crt"), filepath.Join(p.files, "server.key"))
	if err != nil {
		p.t.Fatal(err)
	}
	operator, err := os.ReadFile(filepath.Join(p.files, "operator"))
	if err != nil {
		p.t.Fatal(err)
	}
	sockets := func(name string) *http.Transport {
		return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(p.dir, "run", name))
		}}
	}
	network := func(host byte, certs ...tls.Certificate) *http.Transport { // each from an address of its own, so that none has more than its rate
		d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 2, 0, host)}}
		return &http.Transport{DialContext: d.DialContext, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certs}}
	}
	routes := documented(p.t, p.id)
	for i, who := range []struct {
		name, base, auth string
		by               *http.Transport
	}{
		{"nobody", "https://" + p.listen, "", network(1)},
		{"a wrong token", "https://" + p.listen, "Bearer " + p.secrets.Plant("a wrong token"), network(2)},
		{"a password", "https://" + p.listen, "Basic " + base64.StdEncoding.EncodeToString([]byte("u:"+p.secrets.Plant("a user's password"))), network(3)},
		{"a tenant", "https://" + p.listen, "Bearer " + p.tenant, network(4)},
		{"a server's certificate", "https://" + p.listen, "", network(5, alice)},
		{"an operator", "https://" + p.listen, "Bearer " + string(operator), network(6)},
		{"the admin socket", "http://qosctl", "", sockets("qosctl.sock")},
		{"a job on the admin socket", "http://qosctl", "Bearer " + p.job, sockets("qosctl.sock")},
		{"a job", "http://qosctl", "Bearer " + p.job, sockets("standin.sock")},
		{"no job", "http://qosctl", "Bearer " + p.secrets.Plant("a wrong job's secret"), sockets("standin.sock")},
	} {
		for _, r := range routes {
			p.request(who.name, &http.Client{Transport: who.by, Timeout: 3 * time.Second}, r, who.base, who.auth, p.secrets.Plant(fmt.Sprint("a body ", i)))
		}
		who.by.CloseIdleConnections()
	}
}

// route is one that is documented.
type route struct{ method, path string }

// documented are the routes of docs/openapi.yaml, and the page.
func documented(t *testing.T, job string) []route {
	t.Helper()
	text, err := os.ReadFile("../docs/openapi.yaml")
	var doc struct {
		Paths map[string]map[string]any `yaml:"paths"`
	}
	if err == nil {
		err = yaml.Unmarshal(text, &doc)
	}
	if err != nil || len(doc.Paths) < 20 {
		t.Fatalf("%d paths, %v", len(doc.Paths), err)
	}
	list := []route{{"GET", "/"}, {"GET", "/jobs/" + job}, {"GET", "/no/such/route"}, {"PUT", "/v1/jobs"}}
	for path, methods := range doc.Paths {
		path = strings.NewReplacer("{job}", job, "{node}", "node1").Replace(path)
		for m := range methods {
			if m = strings.ToUpper(m); m != "PARAMETERS" && (m != "DELETE" || path == "/v1/checkpoints") && !strings.HasSuffix(path, "/stop") {
				list = append(list, route{m, path}) // the job is to live
			}
		}
	}
	return list
}

// request makes one, and looks at all of its answer. Of a stream, it looks for three seconds.
func (p *planted) request(who string, c *http.Client, to route, base, auth, secret string) {
	p.t.Helper()
	bodies := []string{""}
	if to.method != http.MethodGet {
		bodies = []string{`"` + secret + `"`, `{"` + secret + `":"` + secret + `","key":["` + secret + `"],"file":"` + secret + `"}`, secret}
	}
	for _, body := range bodies {
		r, err := http.NewRequestWithContext(p.t.Context(), to.method, base+to.path, strings.NewReader(body))
		if err != nil {
			p.t.Fatal(err)
		}
		if auth != "" {
			r.Header.Set("Authorization", auth)
		}
		if strings.HasSuffix(to.path, "/events") {
			c = &http.Client{Transport: c.Transport, Timeout: 500 * time.Millisecond}
		}
		resp, err := c.Do(r)
		if err != nil {
			p.t.Errorf("%s %s by %s: %v", to.method, to.path, who, err)
			continue
		}
		head, _ := httputil.DumpResponse(resp, false)
		text, _ := io.ReadAll(resp.Body) // a stream has no end
		_ = resp.Body.Close()            // likewise
		p.secrets.Check(p.t, fmt.Sprintf("%s %s by %s (%s)", to.method, to.path, who, resp.Status), slices.Concat(head, text))
	}
}
