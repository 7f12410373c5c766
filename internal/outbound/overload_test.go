package outbound_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/breaker"
	"example.com/holdfast/internal/outbound"
)

// server is a simulated dependency that works on so many requests at once, in the order in which they
// came, and on each to its end: it does not notice when the caller has given up.
type server struct {
	service time.Duration
	status  int

	mu       sync.Mutex
	capacity int
	working  int
	queue    []chan struct{}
	peak     int // most requests that it had at once
	replies  int // good ones that were still waited for

	hangEvery int // each so-many-th request takes for ever; 0: none
	arrived   int
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	done := make(chan struct{})
	s.mu.Lock()
	s.arrived++
	hangs := s.hangEvery > 0 && s.arrived%s.hangEvery == 0
	s.mu.Unlock()
	if !hangs {
		go s.work(done)
	}
	select {
	case <-done:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.replies++
		return &http.Response{StatusCode: s.status, Body: http.NoBody, Request: r}, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func (s *server) work(done chan<- struct{}) {
	turn := make(chan struct{})
	s.mu.Lock()
	s.queue = append(s.queue, turn)
	s.next()
	s.peak = max(s.peak, s.working+len(s.queue))
	s.mu.Unlock()
	<-turn
	s.mu.Lock()
	service := s.service
	s.mu.Unlock()
	<-time.After(service)
	s.mu.Lock()
	s.working--
	s.next()
	s.mu.Unlock()
	close(done)
}

// next starts what there is capacity for; mu is held.
func (s *server) next() {
	for s.working < s.capacity && len(s.queue) > 0 {
		s.working++
		close(s.queue[0])
		s.queue = s.queue[1:]
	}
}

// become changes the capacity and begins to count anew.
func (s *server) become(capacity int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.capacity = capacity
	s.peak, s.replies = 0, 0
	s.next()
}

// counts returns peak and replies.
func (s *server) counts() (int, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peak, s.replies
}

// load runs callers that call again and again for as long as the test lasts, and returns the client.
// Times are those of the bubble.
func load(t *testing.T, s *server, limit, callers int, timeout time.Duration) *outbound.Client {
	t.Helper()
	client, err := outbound.New(outbound.Config{
		Name: "risk_api", BaseURL: "http://risk.invalid", Limit: limit, WaitMax: 2 * time.Second,
		Timeout: timeout, Transport: s, InTx: func(context.Context) bool { return false },
		Now:    time.Now, //nolint:forbidigo // the bubble's clock
		Random: func() float64 { return 0 },
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for range callers {
		running.Go(func() {
			for ctx.Err() == nil {
				if _, err := client.Do(ctx, screening()); err != nil {
					<-time.After(100 * time.Millisecond)
				}
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		running.Wait()
		<-time.After(time.Hour) // what the server still has in hand
	})
	return client
}

// TestTheLimitFollowsADependencyThatLosesCapacityAndGetsItBack is what the adapted limit is for. With
// the cap alone the server works on requests that nobody waits for any more: out of 40 a second that it
// could answer, 3 are (docs/adr/0011).
func TestTheLimitFollowsADependencyThatLosesCapacityAndGetsItBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{service: 100 * time.Millisecond, status: 200, capacity: 64}
		client := load(t, s, 64, 128, time.Second)
		<-time.After(5 * time.Second)
		require.Zero(t, client.Health().Adaptive)
		_, replies := s.counts()
		require.Greater(t, replies, 3_000)

		s.become(4)
		<-time.After(30 * time.Second)
		health := client.Health()
		require.Positive(t, health.Adaptive)
		require.Less(t, health.Adaptive, 48)
		s.become(4)
		<-time.After(30 * time.Second)
		peak, replies := s.counts()
		require.Less(t, peak, 64, "what was given up does not pile up")
		require.Greater(t, replies, 30*40/2, "more than half of what the server can do")

		s.become(64)
		<-time.After(15 * time.Second)
		require.Zero(t, client.Health().Adaptive, "the cap is reached again")
		require.Equal(t, 64, client.Health().Limit)
		require.Equal(t, breaker.Closed, client.Health().Breaker)
	})
}

func TestADependencyThatIsSlowIsNotOverloaded(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		lasts     time.Duration
		service   time.Duration
		status    int
		hangEvery int
	}{
		{"fast", 5 * time.Second, 5 * time.Millisecond, 200, 0},
		{"two seconds", 4 * time.Minute, 2 * time.Second, 200, 0},
		{"refuses", 5 * time.Second, 5 * time.Millisecond, 422, 0},
		{"one call in seven hangs", time.Minute, 5 * time.Millisecond, 200, 7},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &server{service: tt.service, status: tt.status, hangEvery: tt.hangEvery, capacity: 1000}
				client := load(t, s, 8, 16, 5*time.Second)
				const looks = 100
				for range looks {
					<-time.After(tt.lasts / looks)
					require.Equal(t, 8, client.Health().Limit)
				}
			})
		})
	}
}

func TestADependencyThatBecomesSlowKeepsItsPlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{service: 5 * time.Millisecond, status: 200, capacity: 1000}
		client := load(t, s, 8, 16, time.Second)
		<-time.After(2 * time.Second)
		s.mu.Lock()
		s.service = 500 * time.Millisecond
		s.mu.Unlock()
		for range 60 {
			<-time.After(time.Second)
			require.Equal(t, 8, client.Health().Limit)
		}
	})
}

// ending makes calls that all end the same way, side by side so that the limit is used.
func ending(t *testing.T, b *bundle, n int) {
	t.Helper()
	var calls sync.WaitGroup
	for range n {
		calls.Go(func() { b.kind(t.Context()) })
	}
	calls.Wait()
}

// TestOnlyLoadShrinksTheLimit makes one turnover of eight places, and two more calls.
func TestOnlyLoadShrinksTheLimit(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status  int
		shrinks bool
	}{
		{200, false},
		{422, false},
		{500, false},
		{502, false},
		{429, true},
		{503, true},
		{504, true},
	}
	for _, tt := range tests {
		t.Run(http.StatusText(tt.status), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, _ := script(t, func(r *http.Request) (int, error) {
					<-time.After(time.Second)
					return reply(tt.status)(r)
				}, func(c *outbound.Config) {
					c.Limit, c.WaitMax, c.Observer = 8, time.Minute, nil
				})
				ending(t, b, 10)
				require.Equal(t, tt.shrinks, b.Health().Adaptive == 5, "%d", b.Health().Adaptive)
			})
		})
	}
}

func TestTheLimitNeverFallsBelowOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := script(t, func(r *http.Request) (int, error) {
			<-time.After(time.Second)
			return reply(503)(r)
		}, func(c *outbound.Config) { c.Limit, c.WaitMax, c.Observer = 3, time.Minute, nil })
		for range 30 {
			ending(t, b, 10)
			b.pass(10 * time.Second) // the breaker lets probes through again
			require.Positive(t, b.Health().Limit)
		}
		require.Equal(t, 1, b.Health().Limit)
	})
}

// TestOneCallerAtATimeShrinksNothing: what fails with one call in flight would fail with one place too.
func TestOneCallerAtATimeShrinksNothing(t *testing.T) {
	t.Parallel()
	b, _ := script(t, reply(503), func(c *outbound.Config) { c.Limit = 8 })
	for range 15 {
		require.Equal(t, outbound.KindStatus5xx, b.kind(t.Context()))
	}
	require.Zero(t, b.Health().Adaptive)
}

// TestAttemptsFromBeforeAChangeDoNotCount lets nine calls fail late, after ten others have shrunk the limit:
// with the next call they would make ten again, but they were made under the old limit.
func TestAttemptsFromBeforeAChangeDoNotCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		finish := make(chan struct{})
		b, s := script(t, func(r *http.Request) (int, error) {
			<-finish
			return reply(503)(r)
		}, func(c *outbound.Config) { c.Limit, c.WaitMax, c.Observer = 10, time.Minute, nil })
		var old sync.WaitGroup
		for range 9 {
			old.Go(func() { b.kind(t.Context()) })
		}
		synctest.Wait()
		b.pass(time.Second)
		s.answer = reply(503)
		for range 10 {
			b.kind(t.Context())
		}
		require.Equal(t, 7, b.Health().Adaptive)
		close(finish)
		old.Wait()
		require.Equal(t, outbound.KindStatus5xx, b.kind(t.Context()))
		require.Equal(t, 7, b.Health().Adaptive)
	})
}

func TestALimitThatIsNotUsedDoesNotGrow(t *testing.T) {
	t.Parallel()
	b, _ := script(t, reply(200), func(c *outbound.Config) { c.Limit = 8 })
	b.Bulkhead().SetAdaptive(5)
	for range 100 {
		require.Equal(t, outbound.KindOK, b.kind(t.Context()))
	}
	require.Equal(t, 5, b.Health().Adaptive)
}
