package doctor

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/agent/pki"
)

func TestCertificates(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	now := time.Now()
	site := t.TempDir()
	d, err := pki.Init(site, "test", 1000*day, now, false)
	if err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	if _, err := pki.Init(other, "other", 1000*day, now, false); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := d.Issue(pki.Request{Role: pki.Node, Name: "a", Life: 100 * day}, dir, now, false); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Issue(pki.Request{Role: pki.Node, Name: "b", Life: 100 * day}, dir, now, false); err != nil {
		t.Fatal(err)
	}
	ours := filepath.Join(site, pki.CAFile)
	file := func(name string) string { return filepath.Join(dir, name) }
	for name, c := range map[string]struct {
		cert  Certificate
		at    time.Time
		level api.Level
		says  string
	}{
		"good":                   {Certificate{Cert: file("a.crt"), Priv: file("a.key")}, now, api.LevelOK, "valid until"},
		"of the authority":       {Certificate{Cert: file("a.crt"), Priv: file("a.key"), CA: ours}, now, api.LevelOK, "valid until"},
		"of another authority":   {Certificate{Cert: file("a.crt"), Priv: file("a.key"), CA: filepath.Join(other, pki.CAFile)}, now, api.LevelFault, "have not issued it"},
		"no authority":           {Certificate{Cert: file("a.crt"), Priv: file("a.key"), CA: file("a.crt")}, now, api.LevelFault, "no authority"},
		"ends soon":              {Certificate{Cert: file("a.crt"), Priv: file("a.key")}, now.Add(90 * day), api.LevelWarning, "it ends on"},
		"has ended":              {Certificate{Cert: file("a.crt"), Priv: file("a.key")}, now.Add(101 * day), api.LevelFault, "it ended on"},
		"not yet":                {Certificate{Cert: file("a.crt"), Priv: file("a.key")}, now.Add(-2 * day), api.LevelFault, "not valid before"},
		"another one's key":      {Certificate{Cert: file("a.crt"), Priv: file("b.key")}, now, api.LevelFault, "can't be used"},
		"a file that is missing": {Certificate{Cert: file("c.crt"), Priv: file("b.key")}, now, api.LevelFault, "can't be used"},
	} {
		c.cert.Key = "tls.cert_file"
		got := c.cert.look(c.at)
		if wants(t, got, c.level, c.says); t.Failed() {
			t.Fatalf("%s", name)
		}
		if strings.Contains(got.Cause, "PRIVATE") {
			t.Errorf("%s: %s", name, got.Cause)
		}
	}
	wants(t, named(t, Certificates, Certificate{Key: "tls.cert_file", Cert: file("a.crt"), Priv: file("a.key")}.Probe()), api.LevelOK)
}
