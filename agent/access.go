package agent

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"qosctl/qos"
)

// identity is who is at the other end of a request over the network. A request without one came by a socket or from a peer: it is an operator's.
type identity struct {
	name     string // of the token, or "cert:" and that of the certificate; "": none was shown
	operator bool
	tenant   string // whose jobs it sees and changes, and no others
}

type identityKey struct{}

// tokens are those that open the TCP address, by the hash of each.
type tokens map[[sha256.Size]byte]identity

// openTokens takes the hashes of the configuration, and the one token of token_file, which is an operator's.
func openTokens(c Config) (tokens, error) {
	t := tokens{}
	for name, one := range c.Access.Tokens {
		sum, err := parseHash(one.Hash)
		if err != nil {
			return nil, err // validated before
		}
		t[sum] = identity{name: name, operator: one.Operator, tenant: one.Tenant}
	}
	plain, err := readToken(c.TokenFile)
	if err != nil {
		return nil, err
	}
	if plain != "" {
		t[sha256.Sum256([]byte(plain))] = identity{name: "token_file", operator: true}
	}
	return t, nil
}

// hashPrefix says how a token was hashed. A token is 128 random bits at least: it needs no slow hash.
const hashPrefix = "sha256:"

// HashToken is a token as a configuration has it.
func HashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hashPrefix + hex.EncodeToString(sum[:])
}

func parseHash(text string) (sum [sha256.Size]byte, err error) {
	b, err := hex.DecodeString(strings.TrimPrefix(text, hashPrefix))
	if err != nil || len(b) != len(sum) || !strings.HasPrefix(text, hashPrefix) {
		return sum, refuse(codeInvalid, "want %s and 64 hexadecimal digits", hashPrefix)
	}
	copy(sum[:], b)
	return sum, nil
}

// of finds out whose a token is. All are compared, so that the time that it takes tells nothing.
func (t tokens) of(token string) (who identity, ok bool) {
	sum := sha256.Sum256([]byte(token))
	for have, id := range t {
		if subtle.ConstantTimeCompare(have[:], sum[:]) == 1 {
			who, ok = id, true
		}
	}
	return who, ok
}

// sees says whether whoever asks may know of a tenant's jobs. A Marathon group's tenant has those of the groups in it too.
func sees(ctx context.Context, tenant string) bool {
	who, network := ctx.Value(identityKey{}).(identity)
	if !network || who.operator || who.name == "" { // whether a nameless one may read at all was seen before
		return true
	}
	return tenant == who.tenant || strings.HasPrefix(who.tenant, "/") && strings.HasPrefix(tenant, who.tenant+"/")
}

// isTenant says whether a request is a tenant's.
func isTenant(ctx context.Context) bool {
	who, network := ctx.Value(identityKey{}).(identity)
	return network && who.name != "" && !who.operator
}

// isStranger says whether a request came over the network from whom nobody knows.
func isStranger(ctx context.Context) bool {
	who, network := ctx.Value(identityKey{}).(identity)
	return network && who.name == ""
}

// maySubmit refuses a tenant a job that would not be its own, or a name that a job of others has, which it could replace.
func (a *Agent) maySubmit(ctx context.Context, spec *qos.Spec) error {
	if !sees(ctx, spec.Tenant) {
		return refuse(codeForbidden, "the job would be tenant %q's", spec.Tenant).hint("a tenant submits to its own group (Marathon) or as its own owner (Chronos)")
	}
	taken := refuse(codeExists, "the name %s is taken", spec.Name)
	if old := a.jobs.holder(spec.Framework, spec.Name); old != nil && !sees(ctx, old.spec().Tenant) {
		return taken
	}
	if a.cluster != nil {
		if r, ok := a.holderElsewhere(spec); ok && !sees(ctx, r.Spec.Tenant) {
			return taken
		}
	}
	return nil
}

// noJob answers about a job that is not there, or is another tenant's: which of the two it is, is not told.
func noJob(ref string) error {
	return refuse(codeNotFound, "no job %q", ref).hint("qosctl jobs --all lists them")
}

// tenantRoutes are all that a tenant's token opens; each job among them must be its own.
func tenantRoutes(r *http.Request) bool {
	switch p := r.URL.EscapedPath(); p {
	case "/v1/health", "/v1/ready", "/v1/jobs":
		return true
	default:
		return strings.HasPrefix(p, "/v1/jobs/")
	}
}

// guard stands before the API on the network. Reading is open to all, or not (access.reads); everything else needs a token or a certificate:
// an operator's, or a tenant's for that tenant's jobs.
func (a *Agent) guard(next http.Handler) http.Handler {
	hosts := a.hosts()
	limit, strangers := newRates(perSecond, burst), newWide()
	turn := map[bool]*turns{false: newTurns(), true: newTurns()} // of strangers, and of those who are known: neither keep the others out
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del(forwardedHeader) // peers have an address of their own
		if err := admissible(r, hosts); err != nil {
			answerError(w, err)
			return
		}
		if !limit.allow(callerAt(r.RemoteAddr)) {
			w.Header().Set("Retry-After", "1")
			answerError(w, refuse(codeBusy, "more than %d requests a second from one address", perSecond))
			return
		}
		who, err := a.authenticate(r)
		noteWho(w, who) // of a tenant that is refused too
		if err != nil {
			answerError(w, err)
			return
		}
		if who.name == "" && !strangers.allow(r) {
			w.Header().Set("Retry-After", "1")
			answerError(w, refuse(codeBusy, "without a token, more than %d questions a second from one address, or %d in all, for which others are asked", wideEach, wideAll))
			return
		}
		leave, ok := turn[who.name != ""].take(w, r)
		if !ok {
			w.Header().Set("Retry-After", "5")
			answerError(w, refuse(codeBusy, "too many requests from one address, or in all, are being answered"))
			return
		}
		defer leave()
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, who)))
	})
}

// authenticate finds out who asks, and whether they may at all.
func (a *Agent) authenticate(r *http.Request) (who identity, err error) {
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	who, err = a.credential(r)
	switch {
	case err != nil:
		return identity{}, err
	case who.name != "" && !who.operator && !tenantRoutes(r):
		return who, refuse(codeForbidden, "%s %s is for operators; %s is a tenant's", r.Method, r.URL.Path, who.name)
	case who.name != "":
		return who, nil
	}
	alive := r.URL.Path == "/v1/health" || r.URL.Path == "/v1/ready"
	if reads && (a.cfg.Access.Reads == readsOpen && !costly(r) || alive) {
		return who, nil
	}
	return who, refuse(codeForbidden, "%s over the network needs a token or a client's certificate", r.Method).
		hint("use the unix socket " + filepath.Join(a.cfg.RunDir, adminSocket) + ", or send one of `access.tokens` as bearer token")
}

// credential is whose token, or else whose certificate, a request comes with; nobody's: the zero identity.
func (a *Agent) credential(r *http.Request) (who identity, err error) {
	if r.Header.Get("Authorization") != "" {
		who, ok := a.tokens.of(bearer(r))
		if !ok {
			return who, refuse(codeForbidden, "the token is not one that this agent knows").hint("qosctl token makes one, and the line for `access.tokens`")
		}
		return who, nil
	}
	if chain := certificates(r); len(chain) > 0 && a.front != nil {
		return a.front.holder(chain)
	}
	return who, nil
}

// hosts are the names that this agent may be asked by over the network, beside its addresses.
func (a *Agent) hosts() []string {
	names := append([]string{"localhost", a.node, a.cfg.Cluster.Hostname}, a.cfg.Access.Hosts...)
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	for _, address := range []string{a.cfg.Listen, a.cfg.Cluster.Advertise, a.cfg.Cluster.PeerAdvertise} {
		if h, _, err := net.SplitHostPort(address); err == nil {
			names = append(names, h)
		}
	}
	for i, n := range names {
		names[i] = strings.ToLower(n)
	}
	return names
}

// anyHost are the routes that machines ask by whatever name they have for this node.
var anyHost = []string{"/metrics", "/v1/health", "/v1/ready", "/v1/targets"}

// admissible refuses what a page of somebody else's site can have a browser send: a request by a name that is not ours (DNS rebinding), and
// one of another origin.
func admissible(r *http.Request, hosts []string) error {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if host == "" || net.ParseIP(host) == nil && !slices.Contains(hosts, host) && !slices.Contains(anyHost, r.URL.Path) {
		return refuse(codeForbidden, "Host %q is not a name of this agent", r.Host).hint("ask it by its address, or list the name under `access.hosts`")
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		if u, err := url.Parse(origin); err != nil || !strings.EqualFold(u.Host, r.Host) {
			return refuse(codeForbidden, "Origin %q is another site", origin)
		}
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		return refuse(codeForbidden, "the request comes from another site (Sec-Fetch-Site: %s)", site)
	}
	return nil
}

func bearer(r *http.Request) string {
	t, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return t
}
