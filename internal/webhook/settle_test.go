package webhook

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/webhook/internal/webhookdb"
)

// noon is when the rounds of these tests end.
var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func half() float64 { return 0.5 }

// aggregate is one of a few that the tests name by a number.
func aggregate(n int) uuid.UUID { return uuid.UUID{15: byte(n)} }

// of is an event at a place, the seq of which is the same number.
func of(aggregateNo int, place int64, r result) *item {
	return &item{kind: KindEvent, chosen: true, result: r, event: outbox.Logged{
		Place: place, Event: outbox.Event{AggregateID: aggregate(aggregateNo), Seq: int32(place)},
	}}
}

var (
	taken   = result{tried: true, delivered: true, outcome: OutcomeDelivered, status: 200}
	refused = result{tried: true, outcome: OutcomeRefused, status: 400, text: "replied 400"}
	untried = result{}
)

func active() webhookdb.WebhookEndpoints {
	return webhookdb.WebhookEndpoints{Status: string(Active), Place: 10, NextAt: noon.Add(-time.Hour)}
}

func decided(e webhookdb.WebhookEndpoints, r *round) *plan { return settle(e, r, e.Place, noon, half) }

// places are those of what goes into the backlog.
func places(kept []kept) []int64 {
	all := []int64{}
	for _, k := range kept {
		all = append(all, k.event.Place)
	}
	return all
}

func TestARoundPassesTheLogUpToItsLastTry(t *testing.T) {
	t.Parallel()
	blocked := func(n int, place int64) *item {
		i := of(n, place, untried)
		i.blocked, i.chosen = true, false
		return i
	}
	for name, tt := range map[string]struct {
		log   []*item
		place int64
		kept  []int64
		more  bool
	}{
		"all delivered":  {[]*item{of(1, 11, taken), of(2, 15, taken)}, 20, []int64{}, false},
		"nothing wanted": {nil, 20, []int64{}, false},
		"one failed":     {[]*item{of(1, 11, taken), of(2, 15, refused)}, 20, []int64{15}, false},
		"behind a failure": {
			[]*item{of(1, 11, refused), of(1, 12, untried), of(2, 13, taken)}, 20, []int64{11, 12}, true,
		},
		"at the end untried": {
			[]*item{of(1, 11, taken), of(1, 14, untried), of(2, 15, untried)}, 13, []int64{}, true,
		},
		"nothing tried":      {[]*item{of(1, 12, untried)}, 11, []int64{}, true},
		"untried in between": {[]*item{of(1, 11, untried), of(2, 12, taken)}, 20, []int64{11}, true},
		"blocked": {
			[]*item{blocked(1, 11), of(2, 12, taken), blocked(1, 13)}, 20, []int64{11, 13}, false,
		},
		"blocked behind gaps": {[]*item{of(2, 12, untried), blocked(1, 13)}, 20, []int64{12, 13}, true},
	} {
		p := decided(active(), &round{log: tt.log, read: 20})
		require.Equal(t, tt.place, p.row.Place, name)
		require.Equal(t, tt.kept, places(p.kept), name)
		require.Equal(t, tt.more, p.more, name)
	}
}

// TestNothingIsLostAndNothingPassesAnother makes any round, and looks for every event of it afterwards.
func TestNothingIsLostAndNothingPassesAnother(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := active()
		e.Probes = rapid.Int32Range(0, 2).Draw(t, "probes")
		if e.Probes > 0 || rapid.Bool().Draw(t, "failing") {
			since := noon.Add(-time.Hour)
			e.FailingSince = &since
		}
		r := &round{read: 40, probe: e.Probes > 0}
		stopped := map[uuid.UUID]bool{}
		for place := int64(11); place <= 30; place++ {
			i := of(rapid.IntRange(1, 6).Draw(t, "aggregate"), place, untried)
			switch got := rapid.SampledFrom([]result{taken, refused, untried}).Draw(t, "result"); {
			case stopped[i.event.AggregateID] || (r.probe && rapid.Bool().Draw(t, "left out")):
			default:
				i.result = got
			}
			stopped[i.event.AggregateID] = stopped[i.event.AggregateID] || !i.result.delivered
			r.log = append(r.log, i)
		}
		p := decided(e, r)
		back := map[int64]bool{}
		for _, k := range p.kept {
			back[k.event.Place] = true
		}
		waiting := map[uuid.UUID]bool{}
		for _, i := range r.log {
			behind := i.event.Place > p.row.Place
			switch {
			case behind: // it is read again
				if back[i.event.Place] || i.result.delivered {
					t.Fatalf("%d is delivered, or in the backlog, and is read again", i.event.Place)
				}
			case i.result.delivered == back[i.event.Place]:
				t.Fatalf("%d: delivered is %v, in the backlog is %v", i.event.Place, i.result.delivered,
					back[i.event.Place])
			case back[i.event.Place] && !slices.Contains(p.promote, i.event.AggregateID):
				t.Fatalf("%d may wait for ever", i.event.Place)
			}
			if i.result.delivered && waiting[i.event.AggregateID] {
				t.Fatalf("%d passed another one", i.event.Place)
			}
			waiting[i.event.AggregateID] = waiting[i.event.AggregateID] || !i.result.delivered
		}
	})
}

func TestAnEndpointIsProbedWhenNothingPassesAndMoreThanOneAggregateFails(t *testing.T) {
	t.Parallel()
	failing := active()
	since := noon.Add(-time.Hour)
	failing.FailingSince = &since
	probed := failing
	probed.Probes = 3
	again := of(1, 5, refused)
	again.attempts = 2
	ping := func(r result) []*task {
		return []*task{{DueTasksRow: webhookdb.DueTasksRow{Kind: KindPing}, items: []*item{{
			kind: KindPing, chosen: true, result: r,
		}}}}
	}
	one, two := []*item{of(1, 11, refused)}, []*item{of(1, 11, refused), of(2, 12, refused)}
	for name, tt := range map[string]struct {
		e       webhookdb.WebhookEndpoints
		r       round
		probes  int32
		failing bool
	}{
		"one aggregate, for the first time": {active(), round{log: one}, 0, true},
		"two aggregates":                    {active(), round{log: two}, 1, true},
		"another one while nothing passes":  {failing, round{log: one}, 1, true},
		"first tries of the backlog": {
			active(), round{heads: []*item{of(1, 5, refused), of(2, 6, refused)}}, 0, true,
		},
		"a retry alone":                {active(), round{heads: []*item{again}}, 0, false},
		"a retry while nothing passes": {failing, round{heads: []*item{again}}, 0, true},
		"a probe that fails":           {probed, round{heads: []*item{again}}, 4, true},
		"one that passes": {
			probed, round{log: []*item{of(1, 11, refused), of(2, 12, taken)}}, 0, false,
		},
		"a ping that passes": {probed, round{tasks: ping(taken)}, 0, false},
		"a ping that fails":  {active(), round{tasks: ping(refused)}, 0, false},
		"nothing to do":      {probed, round{}, 3, true},
	} {
		p := decided(tt.e, &tt.r)
		require.Equal(t, tt.probes, p.row.Probes, name)
		require.Equal(t, tt.failing, p.row.FailingSince != nil, name)
		require.Equal(t, tt.e.FailingSince != nil && !tt.failing, p.recovered, name)
		if tt.probes > 0 && len(tt.r.log) > 0 {
			require.Empty(t, p.kept, name)
			require.Equal(t, tt.e.Place, p.row.Place, "%s: it waits in the log", name)
			require.True(t, p.row.NextAt.After(noon), name)
			require.False(t, p.more, name)
		}
	}
}

func TestAnEventIsDeadOnlyIfOthersPass(t *testing.T) {
	t.Parallel()
	old, young := noon.Add(-deadAfter), noon.Add(-deadAfter+time.Second)
	since := noon.Add(-time.Minute)
	for name, tt := range map[string]struct {
		firstFailed *time.Time
		failing     *time.Time
		log         []*item
		dead        bool
	}{
		"after a day":                      {&old, nil, nil, true},
		"before":                           {&young, nil, nil, false},
		"for the first time":               {nil, nil, nil, false},
		"while nothing passes":             {&old, &since, nil, false},
		"when nothing passes from now on":  {&old, nil, []*item{of(2, 11, refused)}, false},
		"when something passes once again": {&old, &since, []*item{of(2, 11, taken)}, true},
	} {
		e := active()
		e.FailingSince = tt.failing
		head := of(1, 5, refused)
		head.attempts, head.firstFailed = 7, tt.firstFailed
		p := decided(e, &round{heads: []*item{head}, log: tt.log, read: 20})
		require.Len(t, p.missed, 1)
		require.Equal(t, tt.dead, p.missed[0].dead, name)
	}
}

func TestPausesDoubleUpToTheirBoundAndHeedTheReceiver(t *testing.T) {
	t.Parallel()
	for failures, want := range map[int32]time.Duration{
		1: 5 * time.Second, 2: 10 * time.Second, 7: 320 * time.Second, 8: 10 * time.Minute,
		1 << 30: 10 * time.Minute,
	} {
		most := pause(failures, eventPauseMin, eventPauseMax, func() float64 { return 1 })
		least := pause(failures, eventPauseMin, eventPauseMax, func() float64 { return 0 })
		require.Equal(t, []time.Duration{want / 2, want}, []time.Duration{least, most}, "%d", failures)
	}
	asking := refused
	asking.after = time.Minute
	require.Equal(t, time.Minute, of(1, 11, asking).pause(half))
	asking.after = time.Hour
	require.Equal(t, eventPauseMax, of(1, 11, asking).pause(half), "within bounds")
	p := decided(active(), &round{log: []*item{of(1, 11, asking), of(2, 12, asking)}})
	require.Equal(t, noon.Add(probePauseMax), p.row.NextAt)
}

func TestWhatThatDoorKeptBackIsTriedLater(t *testing.T) {
	t.Parallel()
	p := decided(active(), &round{read: 20, log: []*item{of(1, 11, result{deferred: true})}})
	require.Equal(t, noon.Add(deferPause), p.row.NextAt)
	require.False(t, p.more)
	require.EqualValues(t, 10, p.row.Place)
	require.Empty(t, p.kept)
	require.Nil(t, p.row.FailingSince, "nothing was tried")
}

func TestAPausedEndpointIsNotDisabledAndNotGoneOnWith(t *testing.T) {
	t.Parallel()
	e := active()
	e.Status = string(Paused)
	gone := refused
	gone.status = 410
	p := decided(e, &round{read: 20, more: true, log: []*item{of(1, 11, gone)}})
	require.Equal(t, string(Paused), p.row.Status)
	require.False(t, p.more)
	require.Equal(t, []int64{11}, places(p.kept), "what came of it is written down")
}

func TestNothingInsideIsToldToTenants(t *testing.T) {
	t.Parallel()
	secret := errors.New("dial tcp 10.1.2.3:443: lookup hook.internal on 10.0.0.2:53")
	for kind, want := range map[outbound.Kind]result{
		outbound.KindOK:          {deferred: true}, // no call fails so
		outbound.KindTimeout:     {tried: true, outcome: OutcomeTimeout, text: "no reply within 5s"},
		outbound.KindUnreachable: {tried: true, outcome: OutcomeUnreachable, text: "no connection"},
		outbound.KindAmbiguous: {
			tried: true, outcome: OutcomeCutOff, text: "the connection ended before the reply",
		},
		outbound.KindStatus5xx:     {tried: true, outcome: OutcomeFailed, text: "replied 0"},
		outbound.KindStatus4xx:     {tried: true, outcome: OutcomeRefused, text: "replied 0"},
		outbound.KindBadReply:      {tried: true, outcome: OutcomeUnexpected, text: "replied 0"},
		outbound.KindInTransaction: {deferred: true},
		outbound.KindOpen:          {deferred: true},
		outbound.KindRetryBudget:   {deferred: true},
		outbound.KindFull:          {deferred: true},
		outbound.KindNoBudget:      {deferred: true},
		outbound.KindWithheld:      {deferred: true},
		outbound.KindCanceled:      {deferred: true},
	} {
		var r result
		r.judge(0, &outbound.Error{Kind: kind, Err: secret})
		require.Equal(t, want, r, string(kind))
	}
	require.Equal(t, "ab", clipped("a\x00\nb\xff\x7f"))
}

// TestOnlyPublicAddressesAreAllowed has one address at least of every kind that is not.
func TestOnlyPublicAddressesAreAllowed(t *testing.T) {
	t.Parallel()
	production, development := newAddresses(false), newAddresses(true)
	for _, text := range []string{
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255",
		"172.32.0.0", "192.0.1.1", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0",
		"223.255.255.255", "2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450::1",
	} {
		require.True(t, production.allowed(netip.MustParseAddr(text)), text)
		require.True(t, development.allowed(netip.MustParseAddr(text)), text)
	}
	for _, text := range []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255",
		"169.254.169.254", "169.254.0.1", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.170",
		"192.0.2.1", "192.88.99.1",
		"192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1",
		"239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "100::1",
		"2001:db8::1", "3fff::1", "5f00::1", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
		"::8.8.8.8", "::127.0.0.1",
		"64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "2002:7f00:1::1", "2002:808:808::1",
		"2001::1", "2001:0:4136:e378::1", "2001:2::1", "2001:10::1", "2001:20::1", "4000::1",
		"::ffff:0:7f00:1",
	} {
		require.False(t, production.allowed(netip.MustParseAddr(text)), text)
		require.False(t, development.allowed(netip.MustParseAddr(text)), text)
	}
	for _, text := range []string{"127.0.0.1", "127.255.255.254", "::1"} {
		require.False(t, production.allowed(netip.MustParseAddr(text)), text)
		require.True(t, development.allowed(netip.MustParseAddr(text)), text)
	}
	require.False(t, development.allowed(netip.Addr{}))
}

func TestTypesStandForThemselvesOrForAKind(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		types []string
		event string
		want  bool
	}{
		{nil, "transfer.settled", true},
		{[]string{"transfer.settled"}, "transfer.settled", true},
		{[]string{"transfer.settled"}, "transfer.settled.late", false},
		{[]string{"transfer.*"}, "transfer.settled", true},
		{[]string{"transfer.*"}, "transfers.settled", false},
		{[]string{"transfer.*"}, "transfer", false},
		{[]string{"order.*", "transfer.failed"}, "transfer.settled", false},
	} {
		require.Equal(t, tt.want, wants(tt.types, tt.event), fmt.Sprint(tt.types, tt.event))
	}
}
