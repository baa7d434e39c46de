package monasca

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
)

// Share of a token's life, and the most of it, that is left when the next one is fetched.
const (
	renewShare = 10
	renewMost  = 5 * time.Minute
)

// fault is why something could not be sent.
type fault struct {
	answer
	at  string // "Keystone" or "Monasca", and its address
	err error  // no answer: why
	who string // user and project, for remedies
}

// Error names the fault and what helps.
func (f *fault) Error() string {
	text := fmt.Sprintf("%s answered %d: %s", f.at, f.status, f.text)
	if f.err != nil {
		text = fmt.Sprintf("%s: %v", f.at, f.err)
	}
	switch f.verdict {
	case badLogin:
		return text + "; check username, password, project_name and domain_name of the credentials file, or whether " + f.who + " is disabled or locked"
	case denied:
		return text + "; the role is missing: give " + f.who + " the role monasca-agent (or monasca-user)"
	case wrong:
		return text + "; check the addresses of the credentials file and of monasca.url"
	}
	return text
}

// Unwrap is the error below, if no answer came.
func (f *fault) Unwrap() error { return f.err }

// session holds a token of Keystone, and gets the next one in time. It is used by one goroutine.
type session struct {
	http     *http.Client
	override string // Monasca's address by configuration; "": the credentials', then the catalogue's
	region   string
	load     func() (Credentials, bool) // reads the credentials file; false: it can't be read

	creds   Credentials
	client  *gophercloud.ServiceClient // nil: no token
	renewAt time.Time
	fetched int // tokens, in all
}

// open sees to it that there is a client with a token that lives on for a while.
func (s *session) open(ctx context.Context) error {
	if s.client != nil && time.Now().Before(s.renewAt) {
		return nil
	}
	old := s.client
	if err := s.login(ctx); err != nil {
		s.client = old // it may be taken still; when it is not, that is a 401
		var f *fault
		if old != nil && errors.As(err, &f) && f.verdict == later {
			s.renewAt = time.Now().Add(time.Minute)
			return nil
		}
		return err
	}
	return nil
}

// reload reads the credentials file, and says whether it has changed.
func (s *session) reload() bool {
	c, ok := s.load()
	if !ok || c == s.creds {
		return false
	}
	s.creds, s.client = c, nil
	return true
}

// drop forgets the token.
func (s *session) drop() { s.client = nil }

func (s *session) who() string {
	return fmt.Sprintf("user %s in project %s", s.creds.Username, s.creds.Project)
}

// login gets a token, and where Monasca is.
func (s *session) login(ctx context.Context) error {
	s.client = nil
	at := "Keystone at " + s.creds.Keystone
	pc, err := openstack.NewClient(s.creds.Keystone + "/v3/")
	if err != nil {
		return &fault{answer: answer{verdict: wrong}, at: at, err: errors.New("its address is no URL"), who: s.who()}
	}
	pc.HTTPClient = *s.http
	pc.UserAgent.Prepend("qosctl")
	o := &tokens.AuthOptions{
		Username: s.creds.Username, Password: string(s.creds.Password), DomainID: defaultDomain,
		Scope: tokens.Scope{ProjectName: s.creds.Project, DomainID: defaultDomain},
	}
	if s.creds.Domain != "" {
		o.DomainID, o.DomainName, o.Scope.DomainID, o.Scope.DomainName = "", s.creds.Domain, "", s.creds.Domain
	}
	asked := time.Now()
	if err := openstack.AuthenticateV3(ctx, pc, o, gophercloud.EndpointOpts{}); err != nil {
		return s.loginFault(at, err)
	}
	result, ok := pc.GetAuthResult().(tokens.CreateResult)
	if !ok || pc.Token() == "" {
		return &fault{answer: answer{verdict: wrong}, at: at, err: errors.New("it answered without a token"), who: s.who()}
	}
	var token lifetime
	if err := result.ExtractInto(&token); err != nil {
		return &fault{answer: answer{verdict: wrong}, at: at, err: errors.New("its answer is not a token's"), who: s.who()}
	}
	endpoint, err := s.endpoint(result)
	if err != nil {
		return &fault{answer: answer{verdict: wrong}, at: at, err: err, who: s.who()}
	}
	s.fetched++
	s.renewAt = token.renewal(asked)
	s.client = &gophercloud.ServiceClient{ProviderClient: pc, Endpoint: endpoint + "/v2.0/", Type: serviceType}
	return nil
}

// loginFault makes an error of gophercloud one of ours.
func (s *session) loginFault(at string, err error) error {
	f := &fault{at: at, who: s.who()}
	if unexpected, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok {
		f.answer = judgeLogin(unexpected.Actual, unexpected.ResponseHeader, s.clean(unexpected.Body), time.Now())
		f.text = s.scrub(f.text)
		return f
	}
	f.answer, f.err = answer{verdict: later}, errors.New(s.scrub(plainError(err)))
	if errors.Is(err, context.Canceled) {
		f.err = context.Canceled
	}
	return f
}

// lifetime is how long a token lives, by Keystone's clock.
type lifetime struct {
	Issued  time.Time `json:"issued_at"`
	Expires time.Time `json:"expires_at"`
}

// renewal is when the next token is to be fetched. The life counts from the moment it was asked for by our own clock, which may differ
// from Keystone's.
func (l lifetime) renewal(asked time.Time) time.Time {
	life := l.Expires.Sub(l.Issued)
	if l.Issued.IsZero() {
		life = l.Expires.Sub(asked)
	}
	life = max(life, 0)
	return asked.Add(max(life-min(life/renewShare, renewMost), time.Second))
}

// serviceType is Monasca's in a catalogue.
const serviceType = "monitoring"

// endpoint is where Monasca is, without /v2.0.
func (s *session) endpoint(result tokens.CreateResult) (string, error) {
	for _, u := range []string{s.override, s.creds.Monasca} {
		if u != "" {
			return u, nil
		}
	}
	catalog, err := result.ExtractServiceCatalog()
	if err != nil {
		return "", errors.New("its catalogue can't be read")
	}
	for _, entry := range catalog.Entries {
		for _, e := range entry.Endpoints {
			if entry.Type == serviceType && e.Interface == string(gophercloud.AvailabilityPublic) && (s.region == "" || s.region == e.RegionID || s.region == e.Region) {
				return cleanURL(e.URL, "/metrics", "/v2.0")
			}
		}
	}
	return "", fmt.Errorf("its catalogue has no public endpoint of type %s in region %q: give Monasca's address in the credentials file or as monasca.url", serviceType, s.region)
}

// post sends a batch: a JSON array.
func (s *session) post(ctx context.Context, body []byte) answer {
	_, a := s.call(ctx, http.MethodPost, "metrics", body)
	return a
}

// call makes one request of Monasca's API with the present token. A fault of the connection is an answer too.
func (s *session) call(ctx context.Context, method, path string, body []byte) ([]byte, answer) {
	o := &gophercloud.RequestOpts{OkCodes: []int{http.StatusNoContent}, KeepResponseBody: true}
	if method == http.MethodPost {
		o.RawBody = bytes.NewReader(body)
		o.MoreHeaders = map[string]string{"Content-Type": "application/json"} // exactly: Monasca takes no charset with it
	} else {
		o.OkCodes = []int{http.StatusOK}
	}
	resp, err := s.client.Request(ctx, method, s.client.Endpoint+path, o)
	var unexpected gophercloud.ErrUnexpectedResponseCode
	switch {
	case errors.As(err, &unexpected):
		a := judge(unexpected.Actual, unexpected.ResponseHeader, s.clean(unexpected.Body), time.Now())
		a.text = s.scrub(a.text)
		return nil, a
	case err != nil:
		return nil, answer{verdict: later, text: s.scrub(plainError(err)), lost: !neverSent(err)}
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil && method != http.MethodPost {
		return nil, answer{verdict: later, text: s.scrub(plainError(err))}
	}
	return text.Bytes(), answer{verdict: taken, status: resp.StatusCode}
}

// clean takes the secrets out of what a server sent, before it is cut to size; scrub does so with what was decoded from it.
func (s *session) clean(body []byte) []byte { return []byte(s.scrub(string(body))) }

func (s *session) scrub(text string) string {
	secrets := []Secret{s.creds.Password}
	if s.client != nil {
		secrets = append(secrets, Secret(s.client.Token()))
	}
	return scrub(text, secrets...)
}

// plainError is an error of a request without the request's line.
func plainError(err error) string {
	if u, ok := errors.AsType[*url.Error](err); ok {
		if u.Timeout() {
			return "no answer in time"
		}
		err = u.Err
	}
	return oneLine(err.Error())
}

// neverSent says whether a request certainly did not reach the server: there was no connection.
func neverSent(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Op == "dial"
	}
	_, unresolved := errors.AsType[*net.DNSError](err)
	return unresolved
}
