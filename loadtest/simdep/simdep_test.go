package simdep_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/outbound/notify"
	"example.com/holdfast/internal/outbound/risk"
	"example.com/holdfast/loadtest/simdep"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// aWhile is longer than anything takes that does not hang.
const aWhile = 10 * time.Second

func start(t *testing.T, options simdep.Options) *simdep.Server {
	t.Helper()
	server, err := simdep.Start(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	return server
}

// door returns a way to the server, in process if the transport is the server's own.
func door(
	t *testing.T, server *simdep.Server, transport http.RoundTripper, timeout time.Duration,
) *outbound.Client {
	t.Helper()
	client, err := outbound.New(outbound.Config{
		Name: "risk_api", BaseURL: server.URL(), Transport: transport,
		Limit: 64, WaitMax: aWhile, Timeout: timeout,
		InTx: func(context.Context) bool { return false },
		Now:  func() time.Time { return time.Unix(0, 0) },
	})
	require.NoError(t, err)
	t.Cleanup(client.CloseIdle)
	return client
}

// setting is one server and two ways to it, of which one has time.
type setting struct {
	t       *testing.T
	server  *simdep.Server
	client  *outbound.Client
	patient *outbound.Client
}

// both runs a rule over sockets and in process: callers must not see a difference.
func both(t *testing.T, knobs simdep.Knobs, timeout time.Duration, rule func(s setting)) {
	t.Helper()
	t.Run("sockets", func(t *testing.T) {
		t.Parallel()
		server := start(t, simdep.Options{Knobs: knobs})
		rule(setting{t, server, door(t, server, nil, timeout), door(t, server, nil, aWhile)})
	})
	t.Run("in process", func(t *testing.T) {
		t.Parallel()
		server := start(t, simdep.Options{Knobs: knobs})
		inside := server.RoundTripper()
		rule(setting{t, server, door(t, server, inside, timeout), door(t, server, inside, aWhile)})
	})
}

func transfer(key string, value int64) risk.Request {
	return risk.Request{
		EffectKey: key, TransferID: "t", TenantID: "n", From: "a", To: "b",
		AmountValue: value, Currency: "EUR",
	}
}

func kindOf(t *testing.T, err error) outbound.Kind {
	t.Helper()
	var failure *outbound.Error
	require.ErrorAs(t, err, &failure)
	return failure.Kind
}

// eventually waits until the journal is as wanted.
func eventually(t *testing.T, server *simdep.Server, wanted func(simdep.Journal) bool) {
	t.Helper()
	require.Eventually(t, func() bool { return wanted(server.Journal()) }, aWhile, time.Millisecond)
}

// left makes a call, waits until the journal is as wanted, and leaves: like a caller that times out, but
// when it is time and not after a while.
func left(s setting, wanted func(simdep.Journal) bool, call func(ctx context.Context) error) {
	s.t.Helper()
	ctx, leave := context.WithCancel(s.t.Context())
	defer leave()
	ended := make(chan error, 1)
	go func() { ended <- call(ctx) }()
	eventually(s.t, s.server, wanted)
	leave()
	require.Equal(s.t, outbound.KindCanceled, kindOf(s.t, <-ended))
}

func screening(s setting, key string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		_, err := risk.New(s.client).Screen(ctx, transfer(key, 5))
		return err
	}
}

func lost(n uint64) func(simdep.Journal) bool {
	return func(j simdep.Journal) bool { return j.RepliesLost == n }
}

func hangs(n uint64) func(simdep.Journal) bool {
	return func(j simdep.Journal) bool { return j.Hangs == n }
}

func TestRulesDecideByAmount(t *testing.T) {
	t.Parallel()
	both(t, simdep.Knobs{ReviewOver: 100, BlockOver: 1000}, aWhile,
		func(s setting) {
			t, server, client := s.t, s.server, s.client

			screen := func(key string, value int64) risk.Outcome {
				decision, err := risk.New(client).Screen(t.Context(), transfer(key, value))
				require.NoError(t, err)
				require.True(t, strings.HasPrefix(decision.Reference, "scr_"))
				return decision.Outcome
			}
			require.Equal(t, risk.OutcomeApprove, screen("k1", 100))
			require.Equal(t, risk.OutcomeReview, screen("k2", 101))
			require.Equal(t, risk.OutcomeReview, screen("k3", 1000))
			require.Equal(t, risk.OutcomeBlock, screen("k4", 1001))
			require.NoError(t, server.SetKnobs(simdep.Knobs{Decision: simdep.Review}))
			require.Equal(t, risk.OutcomeReview, screen("k5", 1))
			require.Equal(t, risk.OutcomeApprove, screen("k1", 100), "the first reply stands")
		})
}

func TestTheSameKeyHasOneEffectAndOneReply(t *testing.T) {
	t.Parallel()
	both(t, simdep.Knobs{}, aWhile, func(s setting) {
		t, server, client := s.t, s.server, s.client

		const callers = 16
		replies := make([]risk.Decision, callers)
		var all sync.WaitGroup
		for i := range callers {
			all.Go(func() {
				decision, err := risk.New(client).Screen(t.Context(), transfer("same", 5))
				if err != nil {
					t.Error(err)
				}
				replies[i] = decision
			})
		}
		all.Wait()
		for _, reply := range replies {
			require.Equal(t, replies[0], reply)
		}
		journal := server.Journal()
		require.EqualValues(t, callers, journal.Calls)
		require.EqualValues(t, 1, journal.Keys)
		require.EqualValues(t, 1, journal.Effects)
		require.EqualValues(t, callers-1, journal.Duplicates)
		require.Zero(t, journal.Doubled)

		_, err := risk.New(client).Screen(t.Context(), transfer("same", 6))
		require.Equal(t, outbound.KindStatus4xx, kindOf(t, err), "another request under the key")
		err = notify.New(client).Send(t.Context(), notify.Message{EffectKey: "same"})
		require.Equal(t, outbound.KindStatus4xx, kindOf(t, err), "another kind under the key")
		require.EqualValues(t, 2, server.Journal().Conflicts)
	})
}

func TestALostReplyLeavesAnEffectThatCanBeFound(t *testing.T) {
	t.Parallel()
	knobs := simdep.Knobs{TimeoutAfterSuccessRate: 1}
	both(t, knobs, aWhile, func(s setting) {
		t, server, client := s.t, s.server, s.client

		left(s, lost(1), screening(s, "lost"))
		decision, found, err := risk.New(client).Find(t.Context(), "lost")
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, risk.OutcomeApprove, decision.Outcome)

		left(s, lost(2), func(ctx context.Context) error {
			return notify.New(client).Send(ctx, notify.Message{EffectKey: "lost too"})
		})
		sent, err := notify.New(client).Sent(t.Context(), "lost too")
		require.NoError(t, err)
		require.True(t, sent)

		journal := server.Journal()
		require.EqualValues(t, 2, journal.Effects)
		require.EqualValues(t, 2, journal.RepliesLost)
		require.EqualValues(t, 2, journal.Lookups)
	})
}

func TestFailuresHaveNoEffect(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		knobs simdep.Knobs
		kind  outbound.Kind
		count func(simdep.Journal) uint64
	}{
		{
			"error",
			simdep.Knobs{ErrorRate: 1},
			outbound.KindStatus5xx,
			func(j simdep.Journal) uint64 { return j.Errors },
		},
		{
			"hang",
			simdep.Knobs{HangRate: 1},
			outbound.KindTimeout,
			func(j simdep.Journal) uint64 { return j.Hangs },
		},
		{
			"reset",
			simdep.Knobs{ResetRate: 1},
			outbound.KindAmbiguous,
			func(j simdep.Journal) uint64 { return j.Resets },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			both(t, tt.knobs, 250*time.Millisecond,
				func(s setting) {
					t, server, client := s.t, s.server, s.client

					_, err := risk.New(client).Screen(t.Context(), transfer("k", 5))
					require.Equal(t, tt.kind, kindOf(t, err))
					if tt.kind == outbound.KindAmbiguous {
						require.ErrorIs(t, err, syscall.ECONNRESET)
					}
					_, _, err = risk.New(client).Find(t.Context(), "k")
					require.Equal(t, tt.kind, kindOf(t, err), "questions fail like calls")
					require.EqualValues(t, 1, tt.count(server.Journal()))
					require.Zero(t, server.Journal().Effects)

					require.NoError(t, server.SetKnobs(simdep.Knobs{}))
					_, found, err := risk.New(s.patient).Find(t.Context(), "k")
					require.NoError(t, err)
					require.False(t, found)
				})
		})
	}
}

func TestDuplicatesAreAbsorbedUnlessKeysAreIgnored(t *testing.T) {
	t.Parallel()
	both(t, simdep.Knobs{DuplicateRate: 1}, aWhile,
		func(s setting) {
			t, server, client := s.t, s.server, s.client

			require.NoError(t, notify.New(client).Send(t.Context(), notify.Message{EffectKey: "k1"}))
			entry, ok := server.Entry("k1")
			require.True(t, ok)
			require.Equal(t, 2, entry.Calls)
			require.Equal(t, 1, entry.Effects)

			require.NoError(t, server.SetKnobs(simdep.Knobs{DuplicateRate: 1, IgnoreKeys: true}))
			require.NoError(t, notify.New(client).Send(t.Context(), notify.Message{EffectKey: "k2"}))
			require.EqualValues(t, 1, server.Journal().Doubled, "the journal shows what a bad dependency did")
		})
}

func TestACallerWhoLeavesDoesNotUndoTheEffect(t *testing.T) {
	t.Parallel()
	server := start(t, simdep.Options{Knobs: simdep.Knobs{Latency: simdep.Latency{P50: 60}}})
	s := setting{t: t, server: server, client: door(t, server, nil, aWhile)}
	left(s, func(j simdep.Journal) bool { return j.Calls == 1 }, screening(s, "k"))
	eventually(t, server, func(j simdep.Journal) bool { return j.Effects == 1 })
}

func TestTheFateOfACallDoesNotDependOnOtherKeys(t *testing.T) {
	t.Parallel()
	const keys = 200
	outcomes := func(backwards bool) map[string]bool {
		server := start(t, simdep.Options{Knobs: simdep.Knobs{ErrorRate: 0.3, Seed: 7}})
		client := notify.New(door(t, server, server.RoundTripper(), aWhile))
		failed := map[string]bool{}
		for i := range keys {
			if backwards {
				i = keys - 1 - i
			}
			key := "k" + strconv.Itoa(i)
			failed[key] = client.Send(t.Context(), notify.Message{EffectKey: key}) != nil
		}
		require.InDelta(t, 0.3*keys, float64(server.Journal().Errors), 25)
		return failed
	}
	require.Equal(t, outcomes(false), outcomes(true))
}

func TestConcurrencyIsWhatTheDependencySees(t *testing.T) {
	t.Parallel()
	server := start(t, simdep.Options{Knobs: simdep.Knobs{HangRate: 1}})
	client := notify.New(door(t, server, nil, aWhile))
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() { _ = client.Send(ctx, notify.Message{EffectKey: strconv.Itoa(i)}) })
	}
	require.Eventually(t, func() bool { return server.Journal().Concurrent == 5 }, aWhile, time.Millisecond)
	cancel()
	all.Wait()
	require.Eventually(t, func() bool { return server.Journal().Concurrent == 0 }, aWhile, time.Millisecond)
	require.Equal(t, 5, server.Journal().MaxConcurrent)
}

func TestTheJournalIsBoundedAndSaysSo(t *testing.T) {
	t.Parallel()
	server := start(t, simdep.Options{JournalLimit: 3})
	client := notify.New(door(t, server, nil, aWhile))
	for _, key := range []string{"a", "b", "c", "d", "e"} {
		require.NoError(t, client.Send(t.Context(), notify.Message{EffectKey: key}))
	}
	_, ok := server.Entry("b")
	require.False(t, ok)

	var journal simdep.Journal
	status, body := request(t, http.MethodGet, server.URL()+"/journal?keys=2", "")
	require.Equal(t, http.StatusOK, status)
	require.NoError(t, json.Unmarshal([]byte(body), &journal))
	require.Equal(t, 3, journal.KeyLimit)
	require.EqualValues(t, 2, journal.KeysDropped)
	require.EqualValues(t, 5, journal.Effects)
	require.Len(t, journal.ByKey, 2)
	require.Equal(t, "e", journal.ByKey[0].Key)
	require.Equal(t, "d", journal.ByKey[1].Key)
	require.Equal(t, "notification", journal.ByKey[0].Kind)
}

func request(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	transport := &http.Transport{DisableKeepAlives: true}
	reply, err := transport.RoundTrip(r)
	require.NoError(t, err)
	defer func() { _ = reply.Body.Close() }()
	text, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	return reply.StatusCode, string(text)
}

func TestBadRequestsAreRefusedWithoutEffect(t *testing.T) {
	t.Parallel()
	server := start(t, simdep.Options{})
	tests := []struct {
		name, method, path, key, body string
		status                        int
	}{
		{"no key", http.MethodPost, "/v1/screenings", "", `{"amount_value":1}`, 400},
		{"long key", http.MethodPost, "/v1/screenings", strings.Repeat("k", 256), `{"amount_value":1}`, 400},
		{"no JSON", http.MethodPost, "/v1/screenings", "k", `{`, 400},
		{"no amount", http.MethodPost, "/v1/screenings", "k", `{}`, 400},
		{"no JSON to send", http.MethodPost, "/v1/notifications", "k", `nonsense`, 400},
		{"too large", http.MethodPost, "/v1/notifications", "k", strings.Repeat(" ", 64<<10+1), 413},
		{"wrong method", http.MethodDelete, "/v1/screenings", "k", ``, 404},
		{"unknown path", http.MethodGet, "/v1/unknown", "", ``, 404},
	}
	for _, tt := range tests {
		body := strings.NewReader(tt.body)
		r, err := http.NewRequestWithContext(t.Context(), tt.method, server.URL()+tt.path, body)
		require.NoError(t, err)
		r.Header.Set("Idempotency-Key", tt.key)
		reply, err := server.RoundTripper().RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, reply.Body.Close())
		require.Equal(t, tt.status, reply.StatusCode, tt.name)
	}
	require.Zero(t, server.Journal().Effects)
}

func TestCloseReleasesHeldCallers(t *testing.T) {
	t.Parallel()
	server, err := simdep.Start(t.Context(), simdep.Options{Knobs: simdep.Knobs{HangRate: 1}})
	require.NoError(t, err)
	client := notify.New(door(t, server, nil, aWhile))
	ended := make(chan error)
	go func() { ended <- client.Send(t.Context(), notify.Message{EffectKey: "k"}) }()
	require.Eventually(t, func() bool { return server.Journal().Hangs == 1 }, aWhile, time.Millisecond)
	require.NoError(t, server.Close())
	require.Equal(t, outbound.KindAmbiguous, kindOf(t, <-ended))
}

func TestTheServerEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	server, err := simdep.Start(ctx, simdep.Options{})
	require.NoError(t, err)
	cancel()
	require.NoError(t, server.Close())
	err = notify.New(door(t, server, nil, aWhile)).Send(t.Context(), notify.Message{EffectKey: "k"})
	require.Equal(t, outbound.KindUnreachable, kindOf(t, err))
}

func TestRequestsAreLoggedOnlyOnRequest(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	log := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))
	server := start(t, simdep.Options{Log: log})
	client := notify.New(door(t, server, server.RoundTripper(), aWhile))
	require.NoError(t, client.Send(t.Context(), notify.Message{EffectKey: "k"}))
	require.Contains(t, text.String(),
		"msg=request method=POST path=/v1/notifications effect_key=k status=202 answered=true")
}

func TestAnAddressInUseIsAnError(t *testing.T) {
	t.Parallel()
	server := start(t, simdep.Options{})
	_, err := simdep.Start(t.Context(), simdep.Options{Addr: strings.TrimPrefix(server.URL(), "http://")})
	require.Error(t, err)
	require.ErrorIs(t, err, syscall.EADDRINUSE)
}
