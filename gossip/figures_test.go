package gossip_test

import (
	"testing"
	"testing/synctest"
	"time"
)

// The figures that the package is held to, on clusters small enough for every run of the tests; bench_test.go has the large ones.

func TestAClaimIsKnownByNearlyAllWithinThirdOfASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		took := measureClaims(t, 50, 5)
		if m := median(took); m > 300*time.Millisecond {
			t.Errorf("median %v of %v", m, took)
		}
	})
}

func TestADeathIsKnownEverywhereInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		took := measureDeath(t, 30, 5)
		if m := median(took); m > 9*time.Second {
			t.Errorf("median %v of %v", m, took)
		}
	})
}

func TestTablesHealAfterACut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := measureHeal(t, 10, 300, 3*time.Minute)
		if h.contact > 20*time.Second || h.tables > 15*time.Second {
			t.Errorf("%+v", h)
		}
	})
}

func TestAtRestNothingButDigestsIsSent(t *testing.T) {
	t.Parallel()
	for _, jobs := range []int{10, 1000} {
		synctest.Test(t, func(t *testing.T) {
			r := measureRest(t, 8, jobs, 3*time.Minute)
			if r.calls > 50 || r.packets > 400 || r.streams > 1000 {
				t.Errorf("%d jobs: %+v B/s", jobs, r)
			}
		})
	}
}

func TestAccountsAreCheap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		if each := measureAccounts(t, 8, 3, 3*time.Minute); each > 20 || each < 3 {
			t.Errorf("%.1f B/s for each running job", each)
		}
	})
}

func TestAHundredClaimsAtOnceAllArrive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		if took := measureBurst(t, 30, 100); took > 15*time.Second {
			t.Errorf("%v", took)
		}
	})
}
