package monasca

import (
	"context"
	"errors"
	"fmt"
)

// Trial is how it went to sign in and to ask.
type Trial struct {
	Keystone string // its address; "": the credentials can't be read
	Monasca  string // likewise; "": it is not known
	User     string // and project, in words
	Login    error  // why there is no token; nil: there is one
	Ask      error  // why Monasca would take nothing; nil: it would
}

// Try signs in at Keystone and sends Monasca an empty batch, of which it keeps nothing: whether what a Sender of these options sends is taken.
func Try(ctx context.Context, o Options) Trial {
	var t Trial
	creds, err := LoadCredentials(o.Credentials)
	if err != nil {
		t.Login = err
		return t
	}
	o.Timeout = orDefault(o.Timeout, DefaultTimeout)
	t.Keystone = creds.Keystone
	client, err := newHTTP(o)
	if err != nil {
		t.Login = fmt.Errorf("monasca: %w", err)
		return t
	}
	defer client.CloseIdleConnections()
	override := ""
	if o.URL != "" {
		if override, err = cleanURL(o.URL, "/metrics", "/v2.0"); err != nil {
			t.Login = fmt.Errorf("monasca.url: %w", err)
			return t
		}
	}
	s := &session{http: client, override: override, region: o.Region, creds: creds, load: func() (Credentials, bool) { return creds, true }}
	t.User = s.who()
	if t.Login = s.login(ctx); t.Login != nil {
		return t
	}
	t.Monasca = s.client.Endpoint
	if a := s.post(ctx, []byte("[]")); a.verdict != taken && a.verdict != refused { // refused: it minds that there is nothing
		f := &fault{answer: a, at: "Monasca at " + t.Monasca, who: t.User}
		if a.status == 0 {
			f.err = errors.New(a.text)
		}
		t.Ask = f
	}
	return t
}
