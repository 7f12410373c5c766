package app

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/fairshare"
	"example.com/holdfast/internal/httpapi"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/telemetry"
)

func TestAdmissionRefusesMoreTheOlderTheWork(t *testing.T) {
	t.Parallel()
	const ageMax = time.Second
	for _, c := range []struct {
		age   time.Duration
		class string
		want  float64
	}{
		{0, "standard", 0},
		{300 * time.Millisecond, "standard", 0},
		{650 * time.Millisecond, "standard", 0.5},
		{time.Second, "standard", 1},
		{time.Hour, "standard", 1},
		{time.Second, "critical", 4.0 / 14},
		{2 * time.Second, "critical", 1},
		{150 * time.Millisecond, "sheddable", 0},
		{500 * time.Millisecond, "sheddable", 1},
	} {
		require.InDelta(t, c.want, share(c.age, ageMax, c.class), 1e-9, "%s at %s", c.class, c.age)
	}
}

func TestARefusalSaysWhenToComeBack(t *testing.T) {
	t.Parallel()
	metrics := telemetry.New()
	a := newAdmission(nil, time.Second, inLane(fairshare.First), Env{Metrics: metrics})
	transfer := httpapi.Admission{Class: "standard", Creates: httpapi.CreatesTransfer}
	require.NoError(t, a.admit(transfer))
	a.ages.Store(&ages{risk: lanes{time.Minute}})
	err := a.admit(transfer)
	require.True(t, problem.Is(err, problem.Overloaded))
	after := problem.Of(err).RetryAfter
	require.GreaterOrEqual(t, after, overloadedRetry/2)
	require.Less(t, after, 3*overloadedRetry/2)
	families, err := metrics.Registry().Gather()
	require.NoError(t, err)
	for _, f := range families {
		require.NotEqual(t, "holdfast_requests_shed_total", f.GetName(), "the API counts it, once")
	}
}

// inLane puts every tenant into a lane.
func inLane(lane int) laneOf {
	always := func(uuid.UUID) int { return lane }
	return laneOf{always, always}
}

func TestWorkIsRefusedForTheAgeWhereItWouldWait(t *testing.T) {
	t.Parallel()
	const ageMax, old = 500 * time.Millisecond, 2 * time.Second
	for _, c := range []struct {
		name                      string
		ages                      ages
		lane                      int
		transfers, orders, others float64
	}{
		{"nothing waits", ages{}, 1, 0, 0, 0},
		{"the risk service is slow", ages{risk: lanes{old}}, 1, 1, 0, 0},
		{"the risk service is slow for orders too", ages{risk: lanes{paymentAgeMax}}, 1, 1, 1, 0},
		{"payments are half way", ages{risk: lanes{6500 * time.Millisecond}}, 1, 1, 0.5, 0},
		{"the database is slow", ages{db: lanes{old}}, 1, 0, 1, 1},
		{"others flood the lanes behind", ages{risk: lanes{0, old, old}, db: lanes{0, old, old}}, 1, 0, 0, 0},
		{"the tenant floods", ages{risk: lanes{0, old}}, 2, 1, 0, 0},
		{"the tenant floods with orders", ages{db: lanes{0, old}}, 2, 0, 1, 0},
		{"the tenant floods for long", ages{risk: lanes{0, 0, paymentAgeMax}}, 3, 1, 1, 0},
		{"those before the tenant's lane wait", ages{risk: lanes{old}}, 3, 1, 0, 0},
		{"those behind the tenant's lane wait", ages{risk: lanes{0, 0, 0, old}}, 3, 0, 0, 0},
	} {
		a := newAdmission(nil, ageMax, inLane(c.lane), Env{})
		a.ages.Store(&c.ages)
		for creates, want := range map[httpapi.Creation]float64{
			httpapi.CreatesTransfer: c.transfers, httpapi.CreatesOrder: c.orders,
			httpapi.CreatesOther: c.others,
		} {
			got := a.refused(httpapi.Admission{Class: "standard", Creates: creates})
			require.InDelta(t, want, got, 1e-9, "%s: %s", c.name, creates)
		}
	}
}

func TestTheDoorOpensByDegreesAfterAFloodAndFirstForThoseServedLongest(t *testing.T) {
	t.Parallel()
	const ageMax = 500 * time.Millisecond
	var full lanes
	look := func(age time.Duration) time.Duration {
		seen := lanes{0, age}
		full = seen.full(full, ageMax)
		return seen.atLeast(full).wait(2)
	}
	require.Equal(t, 499*time.Millisecond, look(499*time.Millisecond))
	require.Zero(t, look(0), "what was borne is not remembered")
	require.Equal(t, 4*time.Second, look(4*time.Second))
	opened := map[string]int{}
	last := ageMax
	for n := range 20 {
		age := look(0)
		require.Less(t, age, last)
		require.Less(t, float64(last-age), 0.15*float64(ageMax), "by degrees")
		last = age
		for _, class := range []string{"critical", "standard", "sheddable"} {
			if opened[class] == 0 && share(age, ageMax, class) < 0.5 {
				opened[class] = n + 1
			}
		}
	}
	require.Equal(t, 1, opened["critical"])
	require.Less(t, opened["critical"], opened["standard"])
	require.Less(t, opened["standard"], opened["sheddable"])
	require.Zero(t, share(last, ageMax, "sheddable"), "all are let in within two seconds")
	require.Zero(t, full[0], "another lane was never full")
}

func TestTheLaneThatCountsIsThatOfTheTenant(t *testing.T) {
	t.Parallel()
	calm, flood := uuid.New(), uuid.New()
	thirdIf := func(owner uuid.UUID) func(uuid.UUID) int {
		return func(tenant uuid.UUID) int {
			if tenant == owner {
				return fairshare.Third
			}
			return fairshare.First
		}
	}
	a := newAdmission(nil, time.Second, laneOf{transfers: thirdIf(flood), orders: thirdIf(calm)}, Env{})
	a.ages.Store(&ages{risk: lanes{0, 0, time.Minute}, db: lanes{0, 0, time.Minute}})
	for tenant, want := range map[uuid.UUID][2]float64{calm: {0, 1}, flood: {1, 0}} {
		r := httpapi.Admission{TenantID: tenant, Class: "standard", Creates: httpapi.CreatesTransfer}
		require.InDelta(t, want[0], a.refused(r), 1e-9)
		r.Creates = httpapi.CreatesOrder
		require.InDelta(t, want[1], a.refused(r), 1e-9, "who floods with transfers may still order")
	}
}

func TestAPatientSettingIsPatientWithOrdersToo(t *testing.T) {
	t.Parallel()
	a := newAdmission(nil, time.Minute, inLane(fairshare.First), Env{})
	a.ages.Store(&ages{risk: lanes{paymentAgeMax}})
	require.Zero(t, a.refused(httpapi.Admission{Class: "standard", Creates: httpapi.CreatesOrder}))
}
