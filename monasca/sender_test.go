package monasca

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qosctl/monasca/monascatest"
)

func TestSendsBatchesAtOnce(t *testing.T) {
	virtual(t, func(r *rig) {
		r.wantState(Idle)
		r.offer(0, 2500)
		r.wantArrived(0, 2500)
		r.wantState(Sending)
		if got := r.posts(); !slices.Equal(got, []string{"204", "204", "204"}) {
			t.Errorf("2500 measurements went in %v", got)
		}
		v := r.sender.Stats()
		if v.Sent != 2500 || v.Spooled != 0 || v.Queued != 0 || v.Requests != 3 || v.Tokens != 1 || !v.LastSent.Equal(time.Now()) || len(v.Dropped) != 0 {
			t.Errorf("%+v", v)
		}
	})
}

func TestTheContentTypeIsExact(t *testing.T) {
	virtual(t, func(r *rig) {
		var got []string
		r.monasca.Break(func(q *http.Request) *monascatest.Fault {
			got = append(got, fmt.Sprintf("%v %v %s", q.Header["Content-Type"], q.Header["Content-Encoding"], q.URL.Path))
			return nil
		})
		r.offer(0, 1)
		if want := []string{"[application/json] [] /v2.0/metrics"}; !slices.Equal(got, want) {
			t.Errorf("sent with %v", got)
		}
	})
}

func TestATokenIsRenewedBeforeItExpires(t *testing.T) {
	virtual(t, func(r *rig) {
		r.keystone.Set(func(k *monascatest.Keystone) { k.Skew = -17 * time.Hour }) // its clock is wrong: the life counts from ours
		for i := range 240 {                                                       // two hours
			r.offer(i, 1)
			time.Sleep(30 * time.Second)
		}
		r.wantArrived(0, 240)
		asked := r.keystone.Asked()
		if len(asked) != 3 {
			t.Fatalf("%d tokens in two hours", len(asked))
		}
		if d := asked[1].Sub(asked[0]); d < 54*time.Minute || d > 56*time.Minute {
			t.Errorf("renewed after %s", d)
		}
		if got := slices.Compact(r.posts()); !slices.Equal(got, []string{"204"}) {
			t.Errorf("a token had expired: %v", got)
		}
	})
}

func TestARevokedTokenIsRenewedOnce(t *testing.T) {
	virtual(t, func(r *rig) {
		r.offer(0, 1)
		r.keystone.Revoke()
		r.offer(1, 1)
		r.wantArrived(0, 2)
		if got := r.posts(); !slices.Equal(got, []string{"204", "401", "204"}) {
			t.Errorf("got %v", got)
		}
		if n := len(r.keystone.Asked()); n != 2 {
			t.Errorf("%d tokens", n)
		}
	})
}

// An agent without the role must not become a load for Keystone.
func TestAMissingRoleIsSaidAsWhatItIs(t *testing.T) {
	virtual(t, func(r *rig) {
		r.keystone.Set(func(k *monascatest.Keystone) { k.Roles = monascatest.Stranger })
		r.offer(0, 1)
		r.wantState(Permission, "Monasca at http://monasca:8070/v2.0/", "user qosctl in project mesos", "role monasca-agent", "Forbidden")
		for range 24 * 60 {
			time.Sleep(time.Minute)
		}
		if n := len(r.keystone.Asked()); n > 80 {
			t.Errorf("Keystone was asked %d times in a day", n)
		}
		if n := strings.Count(r.log.String(), "level=WARN"); n != 1 {
			t.Errorf("it was said %d times: %s", n, r.log.String())
		}
		r.keystone.Set(func(k *monascatest.Keystone) { k.Roles = monascatest.Agent })
		time.Sleep(31 * time.Minute)
		r.wantArrived(0, 1)
		r.wantState(Sending)
	})
}

func TestAFreshTokenThatIsNotTakenIsNoCredentialProblem(t *testing.T) {
	virtual(t, func(r *rig) {
		r.monasca.Break(always(monascatest.Fault{Status: 401, Body: badToken})) // its Keystone is another one
		r.offer(0, 1)
		r.wantState(Permission)
		if n := len(r.keystone.Asked()); n != 2 {
			t.Errorf("Keystone was asked %d times", n)
		}
		r.monasca.Break(nil)
		time.Sleep(5 * time.Minute)
		r.wantArrived(0, 1)
	})
}

func TestAWrongPasswordIsTriedSeldomAndMendedSoon(t *testing.T) {
	virtual(t, func(r *rig) {
		r.keystone.Set(func(k *monascatest.Keystone) { k.Password = "the new one" })
		r.offer(0, 1)
		r.wantState(BadLogin, "401", "credentials file", "locked")
		time.Sleep(24 * time.Hour)
		asked := r.keystone.Asked()
		if len(asked) > 50 || asked[1].Sub(asked[0]) < 2*time.Minute {
			t.Errorf("tried %d times in a day, again after %s", len(asked), asked[1].Sub(asked[0]))
		}
		r.credentials("the new one")
		time.Sleep(11 * time.Second)
		r.wantArrived(0, 1)
		r.wantState(Sending)
	})
}

func TestACredentialsFileThatIsBrokenForAMomentChangesNothing(t *testing.T) {
	virtual(t, func(r *rig) {
		if err := os.WriteFile(r.options.Credentials, []byte(`{"keystone`), 0o600); err != nil {
			t.Fatal(err)
		}
		r.offer(0, 1)
		r.wantArrived(0, 1)
	})
}

func TestKeystoneDownAndBack(t *testing.T) {
	virtual(t, func(r *rig) {
		r.wire.Set("keystone:5000", nil)
		r.offer(0, 1)
		r.wantState(Retrying, "Keystone at http://keystone:5000", "connection refused")
		time.Sleep(10 * time.Minute)
		r.offer(1, 1)
		r.wire.Set("keystone:5000", r.keystone)
		time.Sleep(time.Minute)
		r.wantArrived(0, 2)
	})
}

func TestATokenIsUsedWhileKeystoneIsDown(t *testing.T) {
	virtual(t, func(r *rig) {
		r.offer(0, 1)
		r.keystone.Break(&monascatest.Fault{Status: 503, Type: "text/html", Body: "<html>down</html>"})
		time.Sleep(57 * time.Minute) // it would be renewed, and is good for 3 minutes more
		r.offer(1, 1)
		r.wantArrived(0, 2)
		time.Sleep(10 * time.Minute)
		r.offer(2, 1)
		r.wantArrived(0, 2)
		r.wantState(Retrying, "503", "down")
		r.keystone.Break(nil)
		time.Sleep(2 * time.Minute)
		r.wantArrived(0, 3)
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	virtual(t, func(r *rig) {
		r.monasca.Break(once(monascatest.Fault{Status: 503, Body: `{"title":"Service unavailable"}`, Header: map[string]string{"Retry-After": "600"}}))
		r.offer(0, 1)
		r.wantState(Retrying, "Service unavailable")
		time.Sleep(599 * time.Second)
		r.wantArrived(0, 0)
		time.Sleep(2 * time.Second)
		r.wantArrived(0, 1)
	})
}

func TestABadMeasurementIsFoundAndDropped(t *testing.T) {
	virtual(t, func(r *rig) {
		bad := func(q *http.Request) *monascatest.Fault { // as if Monasca had a rule that we do not know
			var body bytes.Buffer
			_, _ = body.ReadFrom(q.Body)
			q.Body = readCloser{bytes.NewReader(body.Bytes())}
			for _, n := range []string{"7", "8", "700"} {
				if strings.Contains(body.String(), `{"i":"`+n+`"}`) {
					return &monascatest.Fault{Status: 422, Body: `{"title":"Unprocessable Entity","description":"a new rule"}`}
				}
			}
			return nil
		}
		r.monasca.Break(bad)
		r.offer(0, 1000)
		time.Sleep(time.Minute) // it is not asked too fast
		want := append(append(numbers(0, 7), numbers(9, 700)...), numbers(701, 1000)...)
		if got := r.arrived(); !slices.Equal(got, want) {
			t.Errorf("arrived are %s", short(got))
		}
		v := r.sender.Stats()
		if v.Dropped[Refused] != 3 || v.Sent != 997 || v.Spooled != 0 || v.Requests > 60 {
			t.Errorf("%+v", v)
		}
		if !strings.Contains(r.log.String(), "a new rule") {
			t.Error("the reason is not said")
		}
	})
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

func TestBatchesAreHalvedWhenTooLarge(t *testing.T) {
	virtual(t, func(r *rig) {
		r.monasca.MaxBody = 20_000
		r.offer(0, 3000)
		r.wantArrived(0, 3000)
		v := r.sender.Stats()
		if v.Sent != 3000 || v.Requests > 30 || v.State != Sending {
			t.Errorf("%+v", v)
		}
	})
}

func TestAnotherServerIsNotSentEverythingForNothing(t *testing.T) {
	virtual(t, func(r *rig) {
		r.monasca.Break(always(monascatest.Fault{Status: 404, Type: "text/html", Body: "<h1>It works!</h1>"}))
		r.offer(0, 10)
		r.wantState(Address, "404", "monasca.url")
		if v := r.sender.Stats(); v.Spooled != 10 {
			t.Errorf("%+v", v)
		}
		r.monasca.Break(nil)
		time.Sleep(2 * time.Minute)
		r.wantArrived(0, 10)
	})
}

func TestARedirectionIsNotFollowedWithAToken(t *testing.T) {
	virtual(t, func(r *rig) {
		thief := &monascatest.Monasca{}
		r.wire.Set("thief:80", thief)
		r.monasca.Break(always(monascatest.Fault{Status: 307, Header: map[string]string{"Location": "http://thief/v2.0/metrics"}}))
		r.offer(0, 1)
		r.wantState(Address, "307")
		if n := len(thief.Requests()); n != 0 {
			t.Errorf("%d requests went there", n)
		}
	})
}

func TestOfferNeverWaitsAndIsBounded(t *testing.T) {
	r := newRig(t)
	s, err := New(r.options) // it does not run: nobody takes anything out of the queue
	if err != nil {
		t.Fatal(err)
	}
	many := make([]Measurement, 10_000)
	for range 10 {
		s.Offer(many)
	}
	v := s.Stats()
	if v.Queued != maxQueue || v.Dropped[QueueFull] != 100_000-maxQueue {
		t.Errorf("%+v", v)
	}
	if err := s.spool.close(); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNotLegalIsDroppedAlone(t *testing.T) {
	virtual(t, func(r *rig) {
		r.sender.Offer([]Measurement{
			{Name: "m", At: time.Now(), Value: 0},
			{Name: "a b", At: time.Now()},
			{Name: "m", At: time.Now().Add(-80 * time.Hour)},
			{Name: "m", At: time.Now().Add(time.Hour), Value: 1},
		})
		synctest.Wait()
		r.wantArrived(0, 2)
		if v := r.sender.Stats(); v.Dropped[Invalid] != 1 || v.Dropped[Expired] != 1 {
			t.Errorf("%+v", v)
		}
	})
}

func TestOptionsThatAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, tt := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"no directory":       {func(o *Options) { o.Dir = "" }, "directory"},
		"no credentials":     {func(o *Options) { o.Credentials = "" }, "credentials file"},
		"no such file":       {func(o *Options) { o.Credentials += "x" }, "no such file"},
		"a negative timeout": {func(o *Options) { o.Timeout = -1 }, "timeout"},
		"a tiny spool":       {func(o *Options) { o.MaxBytes = 10 }, "at least 1048576 bytes"},
		"too old":            {func(o *Options) { o.MaxAge = 15 * 24 * time.Hour }, "at most 312h"},
		"a great batch":      {func(o *Options) { o.Batch = 1001 }, "1 to 1000"},
		"a bad address":      {func(o *Options) { o.URL = "http://u:secret@h" }, "must not have a user"},
		"a CA that is none":  {func(o *Options) { o.Transport, o.CAFile = nil, o.Credentials }, "no certificate"},
	} {
		o := r.options
		tt.change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret@") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
