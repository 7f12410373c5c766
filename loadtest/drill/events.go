package drill

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/loadtest/rig"
)

const (
	// eventsWanted is how many events have to leave, and eventsMax how long that may take.
	eventsWanted = 100_000
	eventsMax    = 10 * time.Minute
	// eventsRate is how many transfers a second are sent, each of which has three events.
	eventsRate = 400
	// killEvery is the pause between two kills of a relay.
	killEvery = 2 * time.Second
	// brokerAway is for how long there is no broker.
	brokerAway = 5 * time.Second
	// arriveMax bounds the wait until readers have everything.
	arriveMax = 2 * time.Minute
	// refusedPercent of the calls of a receiver fail that is well otherwise.
	refusedPercent = 2
	// hangingFactor bounds what a dead endpoint does to the others.
	hangingFactor = 1.5
)

// webhookSettings let webhooks go to this machine.
func webhookSettings() []string {
	key := base64.StdEncoding.EncodeToString([]byte("a drill signs with a key of its own"))
	return []string{
		"HOLDFAST_WEBHOOK_KEY=" + key, "HOLDFAST_WEBHOOK_DEVELOPMENT=true", "HOLDFAST_RISK_LIMIT=64",
		"HOLDFAST_NOTIFY_LIMIT=64",
	}
}

func eventsLeave() piece {
	return piece{
		name: "events", most: eventsMax + arriveMax,
		about: "100,000 events leave by feed, webhook and broker while relays are killed and endpoints fail",
		variants: []variant{
			{name: "relays killed, broker away", settings: webhookSettings(), play: playRelaysKilled},
			{name: "an endpoint hangs", settings: webhookSettings(), tenants: 2, play: playEndpointHangs},
		},
	}
}

// playRelaysKilled kills one of four relays again and again, and stops the broker in between.
func playRelaysKilled(ctx context.Context, s *stage) {
	broker := s.runsBroker()
	s.do(func() error {
		s.settings = append(s.settings, "HOLDFAST_NATS_URL="+broker.URL())
		return nil
	})
	s.startWorkers(ctx, 4)
	t := s.caller(0)
	hook := s.receives(ctx, t, "webhook")
	hook.failing.Store(refusedPercent)
	s.brokerReads(ctx)
	feed := newArrivals("feed")
	follow := s.follows(ctx, t, feed)
	s.begin(ctx, t.sendsTransfers(eventsRate), t.placesOrders(5))
	s.phase("relays are killed")
	wanted, kills := s.times(eventsWanted), 0
	for away := false; s.going(ctx) && s.happened(ctx) < wanted; {
		s.wait(ctx, killEvery)
		s.kill(s.oldest())
		s.startWorkers(ctx, 1)
		kills++
		if !away && s.happened(ctx) > wanted/2 {
			away = true
			s.brokerAway(ctx, broker)
		}
	}
	s.settle(ctx)
	all := s.happened(ctx)
	s.until(ctx, "all events at the webhook and in the feed", arriveMax, func() (bool, error) {
		return hook.events() >= all && feed.events() >= all, nil
	})
	s.awaitSinks(ctx)
	s.do(follow)
	s.claim(atLeast("relays killed", float64(kills), 1))
	stream := newArrivals("broker")
	s.do(func() error { return readStream(ctx, broker.URL(), stream) })
	for _, a := range []*arrivals{hook.arrivals, feed, stream} {
		s.gotAll(ctx, a, t.tenant.ID)
	}
	s.figure("events, relays killed", "%d, %d", all, kills)
	s.figure("happened to webhook delivered", "%s", spreadOf(hook.since(0)))
}

// brokerReads waits until a worker holds the sink of the broker, which begins at the head of the log.
func (s *stage) brokerReads(ctx context.Context) {
	s.until(ctx, "a sink of the broker", takeOverWait, func() (bool, error) {
		return s.count(ctx, "SELECT count(*) FROM event_sinks") == 1, s.err
	})
}

// happened is how many events there are.
func (s *stage) happened(ctx context.Context) int {
	return int(s.count(ctx, "SELECT count(*) FROM events")) //nolint:gosec // far below
}

func (s *stage) brokerAway(ctx context.Context, b *rig.Broker) {
	s.phase("the broker is away")
	s.do(func() error { b.Stop(); return nil })
	s.wait(ctx, brokerAway)
	s.do(b.Start)
	s.phase("the broker is back")
}

// awaitSinks waits until the sink of the broker has reached the end of the log.
func (s *stage) awaitSinks(ctx context.Context) {
	s.until(ctx, "all events at the broker", arriveMax, func() (bool, error) {
		behind := s.count(ctx, `
			SELECT (h.last - s.last) + (SELECT count(*) FROM outbox) FROM event_sinks s, event_log_head h`)
		return behind == 0, s.err
	})
}

// follows reads the feed by long polls, as a client does, until the returned function is called.
func (s *stage) follows(ctx context.Context, t *traffic, into *arrivals) func() error {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	skew := time.Duration(0)
	if s.referee != nil {
		skew = s.referee.Skew
	}
	go func() {
		cursor := ""
		for ctx.Err() == nil {
			query := url.Values{"limit": {"200"}, "wait": {"5"}}
			if cursor != "" {
				query.Set("cursor", cursor)
			}
			a, err := t.do(ctx, request{
				http.MethodGet, t.base + "/v1/events?" + query.Encode(), t.tenant.Key, "", nil,
			})
			switch {
			case ctx.Err() != nil:
			case err != nil:
				ended <- err
				return
			case a.status == http.StatusOK:
				cursor = a.nextCursor
				for _, e := range a.events {
					into.take(e, s.run.o.Now().Add(skew))
				}
			case a.status != http.StatusTooManyRequests && a.status != http.StatusServiceUnavailable:
				ended <- fmt.Errorf("feed: status %s %s", strconv.Itoa(a.status), a.code)
				return
			}
		}
		ended <- nil
	}()
	return func() error {
		cancel()
		return <-ended
	}
}

// playEndpointHangs lets the endpoint of one tenant answer nothing, beside another tenant's that is well.
func playEndpointHangs(ctx context.Context, s *stage) {
	s.startWorkers(ctx, 2)
	one, other := s.caller(0), s.caller(1)
	dead, well := s.receives(ctx, one, "the one that hangs"), s.receives(ctx, other, "the other")
	other.prefix = "other-"
	a, b := one.sendsTransfers(40), other.sendsTransfers(40)
	a.name, b.name = "tenant 1", "tenant 2"
	s.begin(ctx, a, b)
	s.during(ctx, "warm", time.Second)
	begin := well.events()
	s.during(ctx, "both are well", s.long(20*time.Second))
	calm := spreadOf(well.since(begin))
	dead.hangs.Store(true)
	begin = well.events()
	before := dead.calls.Load()
	s.during(ctx, "one hangs", s.long(60*time.Second))
	beside := spreadOf(well.since(begin))
	s.figure("calls of the one that hangs meanwhile", "%d", dead.calls.Load()-before)
	got := dead.events()
	dead.hangs.Store(false)
	s.phase("it answers again")
	s.settle(ctx)
	all := map[*receiver]uuid.UUID{dead: one.tenant.ID, well: other.tenant.ID}
	for r, tenant := range all {
		s.until(ctx, "all events at "+r.name, redeliverMax, func() (bool, error) {
			n := s.count(ctx, "SELECT count(*) FROM events e WHERE e.tenant_id = $1", tenant)
			return uint64(r.events()) >= n, s.err //nolint:gosec // never negative
		})
		s.gotAll(ctx, r.arrivals, tenant)
	}
	s.claim(
		notSlower("the other endpoint, happened to delivered", calm, beside, hangingFactor, 0),
		atLeast("events that waited for the one that hung", float64(dead.events()-got), 1),
	)
}

// redeliverMax is how long an endpoint that is well again may be left alone, and then needs to catch up.
const redeliverMax = 6 * time.Minute
