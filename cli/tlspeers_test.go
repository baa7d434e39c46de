package cli

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qosctl/agent/peer"
)

// site is an authority as `qosctl tls` keeps it, and the directories of the nodes that its files are copied to.
type site struct {
	t   *testing.T
	dir string
}

func (s site) tls(args ...string) {
	s.t.Helper()
	var out bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &out, err: &out}
	if code := a.main(s.t.Context(), append(append([]string{"tls"}, args...), "--dir", s.dir)); code != 0 {
		s.t.Fatalf("qosctl tls %s: %d: %s", strings.Join(args, " "), code, out.String())
	}
}

func newSite(t *testing.T) site {
	t.Helper()
	s := site{t, filepath.Join(t.TempDir(), "tls")}
	s.tls("init")
	return s
}

// copy copies files as an operator does: some of the authority's, over those of before.
func (s site) copy(to string, files map[string]string) {
	s.t.Helper()
	for from, name := range files {
		text, err := os.ReadFile(filepath.Join(s.dir, from))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), text, 0o600)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// member is a node whose peers are known by the files of a site.
type member struct {
	t      *testing.T
	name   string
	dir    string
	who    *peer.Identity
	client *peer.Client
	addr   string
}

// newMember issues a certificate to a node, and has it serve and ask.
func (s site) newMember(name string) *member {
	s.t.Helper()
	t := s.t
	m := &member{t: t, name: name, dir: t.TempDir()}
	s.tls("issue", name, "--node")
	s.copy(m.dir, map[string]string{"ca.crt": "ca.crt", name + ".crt": "node.crt", name + ".key": "node.key"})
	var err error
	m.who, err = peer.NewIdentity(peer.IdentityOptions{Node: name, Files: peer.Files{CA: m.file("ca.crt"), Cert: m.file("node.crt"), Key: m.file("node.key")}})
	if err != nil {
		t.Fatal(err)
	}
	server, err := peer.NewServer(peer.Options{Listen: "127.0.0.1:0", Identity: m.who, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer.Answer(w, http.StatusOK, peer.Caller(r.Context()))
	})})
	if err != nil {
		t.Fatal(err)
	}
	m.addr = server.Addr().String()
	if m.client, err = peer.NewClient(peer.ClientOptions{Identity: m.who}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		m.client.Close()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return m
}

func (m *member) file(name string) string { return filepath.Join(m.dir, name) }

// ask is what another node answers: the asker's name, as it is known there.
func (m *member) ask(other *member) (string, error) {
	return peer.Call[string](m.t.Context(), m.client, peer.Target{Node: other.name, Addr: other.addr}, http.MethodGet, "/", nil)
}

// reload has the node read its files, as it does every minute and at SIGHUP.
func (m *member) reload() {
	m.t.Helper()
	if err := m.who.Reload(); err != nil {
		m.t.Fatal(err)
	}
}

// talk asks in both directions.
func talk(when string, a, b *member) {
	a.t.Helper()
	for _, c := range []struct{ from, to *member }{{a, b}, {b, a}} {
		if as, err := c.from.ask(c.to); err != nil || as != c.from.name {
			a.t.Errorf("%s: %s asks %s: %q, %v", when, c.from.name, c.to.name, as, err)
		}
	}
}

// refuses asks in both directions, and wants to be refused.
func refuses(when string, a, b *member) {
	a.t.Helper()
	for _, c := range []struct{ from, to *member }{{a, b}, {b, a}} {
		if as, err := c.from.ask(c.to); !errors.Is(err, peer.ErrRefused) && !isTurnedAway(err) {
			a.t.Errorf("%s: %s asks %s, and is answered %q, %v", when, c.from.name, c.to.name, as, err)
		}
	}
}

// isTurnedAway is of a connection that was there before its certificate was no longer trusted.
func isTurnedAway(err error) bool {
	e, ok := errors.AsType[*peer.StatusError](err)
	return ok && e.Status == http.StatusUnauthorized
}

// Nodes with certificates of one authority's talk, by their own names, and know none of another's; while the authority is exchanged, one node after
// the other, they go on talking with every mixture of files; when it is done what the old one has issued opens nothing.
func TestPeersTalkByCertificatesOfTheSitesAuthority(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.newMember("node-a"), s.newMember("node_b.lab")
	old := s.newMember("node-old") // nobody looks after it
	stranger := newSite(t).newMember("node-a")
	talk("at first", a, b)
	talk("the third one", a, old)
	refuses("another authority's", stranger, b)

	s.tls("rotate")
	for _, m := range []*member{a, b} {
		s.copy(m.dir, map[string]string{"ca.crt": "ca.crt"})
		m.reload()
		talk("both authorities at "+m.name, a, b)
	}
	for _, m := range []*member{a, b} {
		s.tls("issue", m.name, "--node", "--force")
		s.copy(m.dir, map[string]string{m.name + ".crt": "node.crt", m.name + ".key": "node.key"})
		m.reload()
		talk("a new certificate at "+m.name, a, b)
	}
	if as, err := old.ask(a); err != nil || as != "node-old" {
		t.Errorf("the old certificate, while both are trusted: %q, %v", as, err)
	}
	if err := os.Remove(filepath.Join(s.dir, "node-old.crt")); err != nil {
		t.Fatal(err)
	}
	s.tls("rotate", "--finish")
	for _, m := range []*member{a, b} {
		s.copy(m.dir, map[string]string{"ca.crt": "ca.crt"})
		m.reload()
		talk("the new authority alone at "+m.name, a, b)
	}
	refuses("the old certificate, when the exchange is done", old, a) // on the connections of before
	refuses("another authority's", stranger, a)
	old.client.Close()
	refuses("the old certificate, anew", old, b)
}

// What `qosctl tls` issues to others than nodes opens nothing among peers, whatever it is named.
func TestWhatIsIssuedToOthersIsNoPeer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for name, flags := range map[string][]string{
		"server":   {"--server", "--dns", "node-a"},
		"operator": {"--operator"},
		"tenant":   {"--tenant", "/node-a"},
	} {
		s.tls(append([]string{"issue", name}, flags...)...)
		_, err := peer.NewIdentity(peer.IdentityOptions{Node: "node-a", Files: peer.Files{CA: filepath.Join(s.dir, "ca.crt"), Cert: filepath.Join(s.dir, name+".crt"), Key: filepath.Join(s.dir, name+".key")}})
		if err == nil || !strings.Contains(err.Error(), "does not prove that this is node node-a") {
			t.Errorf("the certificate of a %s: %v", name, err)
		}
	}
	s.tls("issue", "node-b", "--node", "--dns", "node-a")
	_, err := peer.NewIdentity(peer.IdentityOptions{Node: "node-a", Files: peer.Files{CA: filepath.Join(s.dir, "ca.crt"), Cert: filepath.Join(s.dir, "node-b.crt"), Key: filepath.Join(s.dir, "node-b.key")}})
	if err == nil || !strings.Contains(err.Error(), "it is node node-b") {
		t.Errorf("another node's certificate, with this one as a host's name: %v", err)
	}
}
