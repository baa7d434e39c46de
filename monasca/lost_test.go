package monasca

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"qosctl/monasca/monascatest"
)

// lostAnswer is taken by Monasca, and its answer does not come.
var lostAnswer = monascatest.Fault{Drop: true, Taken: true}

func TestAfterALostAnswerNothingIsSentTwiceWhereThatCanBeTold(t *testing.T) {
	virtual(t, func(r *rig) {
		r.keystone.Set(func(k *monascatest.Keystone) { k.Roles = monascatest.User })
		r.monasca.Break(once(lostAnswer))
		r.offer(0, 1500)
		r.pass(time.Minute)
		r.wantArrived(0, 1500)
		if v := r.sender.Stats(); v.Found != 1000 || v.Resent != 0 || v.Sent != 1500 || v.State != Sending {
			t.Errorf("%+v", v)
		}
	})
}

// It was lost on its way there, not on its way back.
func TestWhatDidNotArriveIsSentAgain(t *testing.T) {
	virtual(t, func(r *rig) {
		r.keystone.Set(func(k *monascatest.Keystone) { k.Roles = monascatest.User })
		r.monasca.Break(once(monascatest.Fault{Drop: true}))
		r.offer(0, 1500)
		r.pass(time.Minute)
		r.wantArrived(0, 1500)
		if v := r.sender.Stats(); v.Found != 0 || v.Resent != 1000 || v.Sent != 1500 {
			t.Errorf("%+v", v)
		}
	})
}

// The role monasca-agent may not read: what may have arrived is sent again, the same to the millisecond, and replaces itself there.
func TestALostAnswerWithoutTheRightToLook(t *testing.T) {
	virtual(t, func(r *rig) {
		r.monasca.Break(once(lostAnswer))
		r.offer(0, 3)
		r.pass(time.Minute)
		points := r.monasca.Points()
		if got := r.arrived(); !slices.Equal(got, []int{0, 1, 2, 0, 1, 2}) {
			t.Fatalf("arrived are %v", got)
		}
		for i := range 3 {
			if !points[i].At.Equal(points[i+3].At) {
				t.Errorf("sent again with another time: %v", points)
			}
		}
		if v := r.sender.Stats(); v.Resent != 3 || v.Sent != 3 || v.State != Sending {
			t.Errorf("%+v", v)
		}
		looks := 0
		for _, q := range r.monasca.Requests() {
			if q == "GET /v2.0/metrics/measurements 401" {
				looks++
			}
		}
		if looks != 1 {
			t.Errorf("it looked %d times", looks)
		}
	})
}

func TestNothingIsLookedForThatWasNeverSent(t *testing.T) {
	virtual(t, func(r *rig) {
		r.keystone.Set(func(k *monascatest.Keystone) { k.Roles = monascatest.User })
		r.offer(0, 1)
		r.wire.Set("monasca:8070", nil)
		r.offer(1, 1)
		r.wantState(Retrying, "Monasca at http://monasca:8070/v2.0/", "connection refused")
		r.wire.Set("monasca:8070", r.monasca)
		r.pass(time.Minute)
		r.wantArrived(0, 2)
		if got := r.monasca.Requests(); slices.Contains(got, "GET /v2.0/metrics/measurements 200") {
			t.Errorf("looked: %v", got)
		}
	})
}

// An agent that is killed after Monasca took something and before it noted that: its successor looks it up, whatever part of a batch
// had gone.
func TestAfterKillNothingIsSentTwiceWhereThatCanBeTold(t *testing.T) {
	for _, gone := range []int{0, 1, 2, 499, 500, 999, 1000} {
		virtual(t, func(r *rig) {
			r.keystone.Set(func(k *monascatest.Keystone) { k.Roles = monascatest.User })
			r.monasca.Break(always(monascatest.Fault{Status: 503}))
			r.offer(0, 1000)
			r.stop()
			r.monasca.Break(nil)
			if gone > 0 { // as the former agent would have sent it
				b, err := r.sender.spool.oldestBatch(0)
				if err != nil {
					t.Fatal(err)
				}
				if err := r.sender.session.open(r.t.Context()); err != nil {
					t.Fatal(err)
				}
				if a := r.sender.session.post(r.t.Context(), join(b.lines[:gone])); a.verdict != taken {
					t.Fatal(a)
				}
			}
			r.start()
			r.offer(1000, 1)
			r.pass(time.Minute)
			r.wantArrived(0, 1001)
			if v := r.sender.Stats(); v.Found != gone {
				t.Errorf("%d had gone, %d were found", gone, v.Found)
			}
		})
	}
}

func TestWhatWasOfferedBeforeTheEndIsSentByTheNextAgent(t *testing.T) {
	virtual(t, func(r *rig) {
		r.monasca.Break(always(monascatest.Fault{Status: 502}))
		r.offer(0, 5)
		r.sender.Offer([]Measurement{{Name: "m", At: time.Now(), Value: 5}})
		r.stop()
		r.monasca.Break(nil)
		r.start()
		r.pass(time.Minute)
		r.wantArrived(0, 6)
	})
}

// A request that is under way when the agent stops is answered, as a rule: it need not be in doubt.
func TestTheLastRequestIsGivenAMoment(t *testing.T) {
	virtual(t, func(r *rig) {
		r.monasca.Break(func(*http.Request) *monascatest.Fault {
			r.pass(2 * time.Second)
			return nil
		})
		r.offer(0, 1)
		r.stop()
		r.wantArrived(0, 1)
		if v := r.sender.Stats(); v.Sent != 1 || v.Spooled != 0 {
			t.Errorf("%+v", v)
		}
	})
}
