package bench

import (
	"context"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/config"
	"example.com/holdfast/loadtest/rig"
)

const (
	// callersPerCore of a benchmark's closed loop.
	callersPerCore = 32
	// benchMax bounds one benchmark.
	benchMax = 5 * time.Minute
)

// serveHere runs a system inside the benchmark, on a durable private PostgreSQL.
func serveHere(b *testing.B, kind string) (*traffic, *rig.Referee) {
	b.Helper()
	if testing.Short() {
		b.Skip("starts a durable PostgreSQL")
	}
	o := Full()
	o.Now, o.Env = time.Now, os.Getenv //nolint:forbidigo // what main does
	db, seeds, err := startDatabase(b.Context(), o)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Server.Stop()) })
	url, err := db.CopyOf(b.Context(), "bench_here")
	require.NoError(b, err)
	environ := childEnviron(kind, url, seeds, nil)
	cfg, err := config.Load(environ)
	require.NoError(b, err)
	inside, err := startDependencies(b.Context())
	require.NoError(b, err)
	s, err := build(b.Context(), cfg, environ, inside)
	require.NoError(b, err)
	require.NoError(b, s.Start(b.Context()))
	b.Cleanup(func() {
		require.NoError(b, s.Stop(context.WithoutCancel(b.Context())))
		require.NoError(b, inside.close())
	})
	judge, err := rig.NewReferee(b.Context(), url, o.Now)
	require.NoError(b, err)
	b.Cleanup(func() { judge.Close(b.Context()) })
	return newTraffic(s.Addr(), seeds, 1), judge
}

// acceptAll posts b.N transfers or orders over HTTP; what is refused for a moment is posted again.
func acceptAll(b *testing.B, t *traffic) {
	b.Helper()
	var caller atomic.Int64
	b.SetParallelism(callersPerCore)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		//nolint:forbidigo // a socket's deadline
		c, err := dial(b.Context(), t.addr, time.Now().Add(benchMax))
		if err != nil {
			b.Error(err)
			return
		}
		defer c.close()
		request := t.newSender(int(caller.Add(1)))
		for pb.Next() {
			a := answer{status: http.StatusServiceUnavailable}
			for a.status == http.StatusServiceUnavailable {
				if a, err = c.do(request.fresh()); err != nil {
					b.Error(err)
					return
				}
			}
			if a.status != http.StatusAccepted {
				b.Errorf("status %d", a.status)
				return
			}
		}
	})
}

// BenchmarkAccept is one accepted transfer over HTTP, nobody settling beside it.
func BenchmarkAccept(b *testing.B) {
	t, _ := serveHere(b, kindAccepts)
	acceptAll(b, t)
}

// BenchmarkEndToEnd is one transfer from its request until it is settled and told about.
func BenchmarkEndToEnd(b *testing.B) {
	t, judge := serveHere(b, kindHoldfast)
	acceptAll(b, t)
	_, all, err := judge.Drain(b.Context(), drainMax)
	require.NoError(b, err)
	require.True(b, all)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "settled/s")
}

// BenchmarkOrder is one order from its request until it has ended and its payment is told about.
func BenchmarkOrder(b *testing.B) {
	t, judge := serveHere(b, kindHoldfast)
	t.places = true
	acceptAll(b, t)
	_, all, err := judge.Drain(b.Context(), drainMax)
	require.NoError(b, err)
	require.True(b, all)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ended/s")
}

// BenchmarkGenerator is what a request costs the load generator, with a server that does nothing.
func BenchmarkGenerator(b *testing.B) {
	var h rig.Histogram
	request := trafficTo("127.0.0.1:1", accountsDefault).newRequest(0)
	b.ReportAllocs()
	for b.Loop() {
		_ = request.fresh()
		h.Add(time.Millisecond)
	}
}
