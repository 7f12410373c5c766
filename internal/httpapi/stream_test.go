package httpapi

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/problem"
)

// frame is what a stream says at once: its fields, and its comment under "".
type frame map[string]string

// reading is the client's side of a stream.
type reading struct {
	*http.Response

	lines *bufio.Scanner
}

// streamServer serves a bundle as a process does, with a clock that may be moved.
func streamServer(t *testing.T, change ...func(*Config)) (bundle, string, *atomic.Int64) {
	t.Helper()
	shift := &atomic.Int64{}
	b := setup(t, append(change, func(c *Config) {
		clock := c.Now
		c.Now = func() time.Time { return clock().Add(time.Duration(shift.Load())) }
	})...)
	return b, "http://" + serve(t, b.handler), shift
}

func openStream(t *testing.T, url string, header http.Header) *reading {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), get, url, http.NoBody)
	require.NoError(t, err)
	r.Header = http.Header{"Authorization": {"Bearer acme"}, "Accept": {"text/event-stream"}}
	maps.Copy(r.Header, header)
	transport := &http.Transport{} // no connection is used again, so that closing one is seen
	response, err := transport.RoundTrip(r)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = response.Body.Close()
		transport.CloseIdleConnections()
	})
	return &reading{response, bufio.NewScanner(response.Body)}
}

// next reads one frame, or nil at the end.
func (r *reading) next(t *testing.T) frame {
	t.Helper()
	f := frame{}
	for r.lines.Scan() {
		line := r.lines.Text()
		if line == "" {
			return f
		}
		name, value, found := strings.Cut(line, ": ")
		require.True(t, found, line)
		require.NotContains(t, f, name)
		f[name] = value
	}
	require.NoError(t, r.lines.Err())
	return nil
}

func event(f *fakeFeed, place int) frame {
	e := f.log[place-1]
	body := strings.ReplaceAll(string(bodyOf(e, f.padding)), "\n", " ")
	return frame{"id": behind(e.Place), "event": e.Type, "data": body}
}

func TestAStreamTellsEventsAsTheyHappen(t *testing.T) {
	t.Parallel()
	b, url, _ := streamServer(t)
	b.fake.feed.grow(acme, "transfer.settled", "order.pending")
	s := openStream(t, url+events, nil)
	require.Equal(t, http.StatusOK, s.StatusCode)
	require.Equal(t, typeStream, s.Header.Get("Content-Type"))
	require.Equal(t, "no-store", s.Header.Get("Cache-Control"))
	require.Equal(t, frame{"retry": "1000", "id": behind(0)}, s.next(t))
	require.Equal(t, event(b.fake.feed, 1), s.next(t))
	require.Equal(t, event(b.fake.feed, 2), s.next(t))
	b.fake.feed.grow(globex, "transfer.settled")
	b.fake.feed.grow(acme, "transfer.accepted")
	require.Equal(t, event(b.fake.feed, 4), s.next(t))
}

func TestAStreamGoesOnWhereTheLastOneEnded(t *testing.T) {
	t.Parallel()
	b, url, _ := streamServer(t)
	b.fake.feed.grow(acme, slices.Repeat([]string{"transfer.settled", "order.pending"}, streamPage)...)
	last := http.Header{"Last-Event-Id": {behind(3)}}
	for name, s := range map[string]*reading{
		"header":                openStream(t, url+events, last),
		"cursor":                openStream(t, url+events+"?cursor="+behind(3), nil),
		"header and old cursor": openStream(t, url+events+"?cursor="+behind(1), last),
		"header and from now":   openStream(t, url+events+"?from=now", last),
	} {
		require.Equal(t, behind(3), s.next(t)["id"], name)
		for place := 4; place <= 2*streamPage; place++ {
			require.Equal(t, event(b.fake.feed, place), s.next(t), name)
		}
	}
	filtered := openStream(t, url+events+"?type=order.*", nil)
	filtered.next(t)
	for place := 2; place <= 2*streamPage; place += 2 {
		require.Equal(t, event(b.fake.feed, place), filtered.next(t))
	}
	fresh := openStream(t, url+events+"?from=now", nil)
	require.Equal(t, behind(2*streamPage), fresh.next(t)["id"], "it can be resumed before the first event")
}

func TestAQuietStreamShowsThatItLives(t *testing.T) {
	t.Parallel()
	b, url, shift := streamServer(t)
	s := openStream(t, url+events+"?type=transfer.*", nil)
	require.Equal(t, behind(0), s.next(t)["id"])
	for range 3 {
		b.fake.feed.grow(globex, "order.pending")
	}
	shift.Store(int64(streamBeat))
	b.fake.feed.grow(acme, "order.pending")
	require.Equal(t, frame{"": "still here", "id": behind(4)}, s.next(t), "nobody wants the event")
}

func TestAStreamOutlivesTheTimeoutsOfItsServer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	server := NewServer(b.handler, slog.New(slog.DiscardHandler))
	server.ReadTimeout, server.WriteTimeout = 300*time.Millisecond, 300*time.Millisecond
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	})
	s := openStream(t, "http://"+listener.Addr().String()+events, nil)
	s.next(t)
	timer := time.AfterFunc(900*time.Millisecond, func() { b.fake.feed.grow(acme, "transfer.settled") })
	defer timer.Stop()
	require.Equal(t, "transfer.settled", s.next(t)["event"])
}

func TestAStreamOverHTTP2MayBeQuietForLongerThanAWriteMayTake(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) {
		clock := c.Now
		c.Now = func() time.Time { return clock().Add(300*time.Millisecond - streamWriteMax) }
	})
	server := httptest.NewUnstartedServer(b.handler)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	r, err := http.NewRequestWithContext(t.Context(), get, server.URL+events, http.NoBody)
	require.NoError(t, err)
	r.Header = http.Header{"Authorization": {"Bearer acme"}, "Accept": {"text/event-stream"}}
	response, err := server.Client().Do(r)
	require.NoError(t, err)
	require.Equal(t, 2, response.ProtoMajor)
	t.Cleanup(func() { _ = response.Body.Close() })
	s := &reading{response, bufio.NewScanner(response.Body)}
	s.next(t)
	timer := time.AfterFunc(900*time.Millisecond, func() { b.fake.feed.grow(acme, "transfer.settled") })
	defer timer.Stop()
	require.Equal(t, "transfer.settled", s.next(t)["event"])
}

func TestAStreamEndsWhenTheInstanceStops(t *testing.T) {
	t.Parallel()
	ending := make(chan struct{})
	b, url, _ := streamServer(t, func(c *Config) { c.Ending = ending })
	b.fake.feed.grow(acme, "transfer.settled")
	s := openStream(t, url+events, nil)
	s.next(t)
	require.NotNil(t, s.next(t))
	close(ending)
	require.Nil(t, s.next(t), "it ends as a whole answer does")
	b.requireNoStreams(t)
}

func TestAStreamEndsWhenItsTimeIsUp(t *testing.T) {
	t.Parallel()
	b, url, _ := streamServer(t)
	s := openStream(t, url+events, http.Header{"Request-Timeout": {"500"}})
	s.next(t)
	require.Nil(t, s.next(t))
	b.requireNoStreams(t)
	require.NotContains(t, b.log.String(), "ERROR")
	list := publicRoutes()[slices.IndexFunc(publicRoutes(), func(r served[public]) bool {
		return r.has(streamable)
	})]
	require.Equal(t, streamBudget, list.asStream().budget)
	require.Equal(t, waitBudget, list.budget)
}

// requireNoStreams waits until all streams have given back what they had.
func (b bundle) requireNoStreams(t *testing.T) {
	t.Helper()
	f := b.handler.(*front)
	require.Eventually(t, func() bool {
		f.streamRoom.mu.Lock()
		defer f.streamRoom.mu.Unlock()
		return f.streaming.n.Load() == 0 && len(f.streamRoom.taken) == 0 && f.inFlight.Load() == 0
	}, 10*time.Second, time.Millisecond)
}

func TestAClientThatGoesLeavesItsPlace(t *testing.T) {
	t.Parallel()
	b, url, _ := streamServer(t)
	s := openStream(t, url+events, nil)
	s.next(t)
	require.NoError(t, s.Body.Close())
	b.requireNoStreams(t)
}

func TestAClientThatDoesNotReadIsCutOff(t *testing.T) {
	t.Parallel()
	b, url, shift := streamServer(t)
	shift.Store(int64(100*time.Millisecond - streamWriteMax)) // a write has a tenth of a second
	b.fake.feed.padding = strings.Repeat("x", 1<<18)
	b.fake.feed.grow(acme, slices.Repeat([]string{"transfer.settled"}, streamPage)...)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	_, err = io.WriteString(conn, "GET "+events+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer acme\r\n"+
		"Accept: text/event-stream\r\n\r\n")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		b.fake.feed.mu.Lock()
		defer b.fake.feed.mu.Unlock()
		return b.fake.feed.encoded > 0
	}, 10*time.Second, time.Millisecond)
	b.requireNoStreams(t)
	cut, err := io.ReadAll(conn)
	require.Less(t, len(cut), streamPage<<18, "not all of it came: %v", err)
}

func TestStreamsAreBoundedForEachTenantAndForAll(t *testing.T) {
	t.Parallel()
	metrics := &fakeMetrics{}
	b, url, _ := streamServer(t, func(c *Config) { c.StreamsMax, c.InFlightMax, c.Metrics = 2, 1, metrics })
	s := openStream(t, url+events, nil)
	s.next(t)
	mine := exchange{method: get, path: events, header: http.Header{"Accept": {typeStream}}}
	a := b.do(t, mine)
	require.Equal(t, string(problem.Overloaded), a.problem(t).Code)
	require.Equal(t, "10", a.Header().Get("Retry-After"))
	require.Equal(t, http.StatusOK, b.do(t, exchange{method: get, path: events}).Code,
		"a stream takes nothing from the requests in flight")
	other := openStream(t, url+events, http.Header{"Authorization": {"Bearer globex"}})
	require.NotNil(t, other.next(t))
	mine.key = "globex"
	b.requireProblem(t, mine, problem.Overloaded)
	require.Equal(t, []string{"tenant_streams", "streams"}, metrics.shed)

	require.NoError(t, s.Body.Close())
	require.NoError(t, other.Body.Close())
	b.requireNoStreams(t)
	require.NotNil(t, openStream(t, url+events, nil).next(t))
}

func TestAStreamThatCannotBeginIsAProblem(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fake.feed.grow(acme, "transfer.settled", "transfer.settled")
	b.fake.feed.forget(1)
	stream := func(path string, header http.Header) exchange {
		if header == nil {
			header = http.Header{}
		}
		header.Set("Accept", typeStream)
		return exchange{method: get, path: path, header: header}
	}
	anonymous := stream(events, nil)
	anonymous.key = "-"
	b.requireProblem(t, anonymous, problem.Unauthenticated)
	b.requireProblem(t, stream(events+"?cursor="+behind(0), nil), problem.CursorExpired)
	last := http.Header{"Last-Event-Id": {behind(0)}}
	b.requireProblem(t, stream(events, last), problem.CursorExpired)
	for path, pointer := range map[string]string{
		events + "?cursor=x":       "cursor",
		events + "?limit=5":        "limit",
		events + "?wait=5":         "wait",
		events + "?type=transfer":  "type",
		events + "?from=yesterday": "from",
	} {
		p := b.requireProblem(t, stream(path, nil), problem.ValidationFailed)
		require.Equal(t, pointer, p.Errors[0].Pointer)
	}
	p := b.requireProblem(t, stream(events, http.Header{"Last-Event-Id": {"x"}}), problem.ValidationFailed)
	require.Equal(t, lastEventID, p.Errors[0].Pointer)
	b.requireNoStreams(t)
}

func TestWhatBreaksAStreamIsInItsLine(t *testing.T) {
	t.Parallel()
	b, url, _ := streamServer(t)
	s := openStream(t, url+events, nil)
	s.next(t)
	b.fake.feed.fail(errors.New("secret"))
	b.fake.feed.ring(acme)
	require.Nil(t, s.next(t))
	b.requireNoStreams(t)
	require.Contains(t, b.log.String(), "secret")
	require.Contains(t, b.log.String(), `"problem":"internal"`)
}

func TestAStreamIsCountedUnderANameOfItsOwn(t *testing.T) {
	t.Parallel()
	metrics := &fakeMetrics{}
	b, url, _ := streamServer(t, func(c *Config) { c.Metrics = metrics })
	require.NoError(t, openStream(t, url+events, nil).Body.Close())
	b.requireNoStreams(t)
	require.Eventually(t, func() bool {
		metrics.mu.Lock()
		defer metrics.mu.Unlock()
		return slices.Equal(metrics.requests, []string{"GET /v1/events stream 200"})
	}, 10*time.Second, time.Millisecond)
}

func TestWhoAsksForAStreamSaysSo(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]bool{
		"":                                      false,
		"*/*":                                   false,
		"text/*":                                false,
		"application/json":                      false,
		"text/event-stream":                     true,
		"Text/Event-Stream;charset=utf-8":       true,
		"application/json, text/event-stream":   true,
		"text/event-stream;q=0, */*":            false,
		"text/event-stream;q=0.5":               true,
		"text/event-streams":                    false,
		"application/json;profile=\"x,y\", */*": false,
	} {
		require.Equal(t, want, wantsStream(accept), accept)
	}
}

func TestAStreamLooksOnItsOwnTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fake.feed.looked = make(chan struct{}) // nobody hears it
	f := &follower{feed: b.fake.feed, tenant: acme}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := b.handler.(*front).fill(ctx, &frames{}, f)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, streamLookMax, streamBeat)
	require.Less(t, streamWriteMax, streamBeat)
	require.Less(t, feedLookEvery, streamBeat)
}
