package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/broker"
	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/pgtest"
)

const (
	streamName = "HOLDFAST"
	// waitMax bounds the wait for a condition.
	waitMax = 30 * time.Second
	// look is how often a condition is looked at.
	look = time.Millisecond
)

// began is the time at which the clock of a test begins.
var began = time.UnixMicro(1_700_000_000_000_000)

func TestMain(m *testing.M) { pgtest.Main(m) }

// natsServer is a server with JetStream that may be stopped and started on the same port and files.
type natsServer struct {
	options server.Options
	running *server.Server
}

func newServer(tb testing.TB, change ...func(*server.Options)) *natsServer {
	tb.Helper()
	s := &natsServer{options: server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: tb.TempDir(), NoLog: true,
		NoSigs: true,
	}}
	for _, c := range change {
		c(&s.options)
	}
	s.start(tb)
	tb.Cleanup(s.stop)
	return s
}

func (s *natsServer) start(tb testing.TB) {
	tb.Helper()
	options := s.options
	var err error
	s.running, err = server.NewServer(&options)
	require.NoError(tb, err)
	s.running.Start()
	require.True(tb, s.running.ReadyForConnections(waitMax))
	s.options.Port = s.running.Addr().(*net.TCPAddr).Port
}

func (s *natsServer) stop() {
	s.running.Shutdown()
	s.running.WaitForShutdown()
}

func (s *natsServer) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", s.options.Port) }

// connect is the connection of a consumer.
func (s *natsServer) connect(tb testing.TB) *nats.Conn {
	tb.Helper()
	nc, err := nats.Connect(s.url())
	require.NoError(tb, err)
	tb.Cleanup(nc.Close)
	return nc
}

func (s *natsServer) jetStream(tb testing.TB) jetstream.JetStream {
	tb.Helper()
	js, err := jetstream.New(s.connect(tb))
	require.NoError(tb, err)
	return js
}

// stored reads the whole stream, oldest first.
func (s *natsServer) stored(tb testing.TB) []*jetstream.RawStreamMsg {
	tb.Helper()
	stream, err := s.jetStream(tb).Stream(tb.Context(), streamName)
	require.NoError(tb, err)
	var messages []*jetstream.RawStreamMsg
	for seq := range stream.CachedInfo().State.LastSeq {
		m, err := stream.GetMsg(tb.Context(), seq+1)
		require.NoError(tb, err)
		messages = append(messages, m)
	}
	return messages
}

// storedIDs are the ids of the whole stream.
func (s *natsServer) storedIDs(tb testing.TB) []string {
	tb.Helper()
	var ids []string
	for _, m := range s.stored(tb) {
		ids = append(ids, m.Header.Get("Nats-Msg-Id"))
	}
	return ids
}

// clock is a clock that stands still until it is moved.
type clock struct{ passed atomic.Int64 }

func (c *clock) now() time.Time { return began.Add(time.Duration(c.passed.Load())) }

func (c *clock) pass(d time.Duration) { c.passed.Add(int64(d)) }

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}

// bundle is a broker, and what it said.
type bundle struct {
	*broker.Broker
	clock *clock
	log   *lines

	mu   sync.Mutex
	seen []broker.Observation
}

func (b *bundle) observed() []broker.Observation {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.seen)
}

// settings are those of a bundle.
func (b *bundle) settings(url string, change ...func(*broker.Config)) broker.Config {
	config := broker.Config{
		URL: url, Stream: streamName, Name: "test", InTx: func(context.Context) bool { return false },
		Now: b.clock.now, Log: slog.New(slog.NewTextHandler(b.log, nil)),
		Observer: func(o broker.Observation) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.seen = append(b.seen, o)
		},
	}
	for _, c := range change {
		c(&config)
	}
	return config
}

func newBundle() *bundle { return &bundle{clock: &clock{}, log: &lines{}} }

// connect makes a broker that is closed with the test.
func connect(tb testing.TB, url string, change ...func(*broker.Config)) *bundle {
	tb.Helper()
	b := newBundle()
	var err error
	b.Broker, err = broker.Connect(tb.Context(), b.settings(url, change...))
	require.NoError(tb, err)
	tb.Cleanup(b.Close)
	return b
}

// refused is the error of a Connect that has to fail.
func refused(t *testing.T, url string, change ...func(*broker.Config)) error {
	t.Helper()
	b := newBundle()
	_, err := broker.Connect(t.Context(), b.settings(url, change...))
	require.Error(t, err)
	return err
}

func (b *bundle) becomesHealthy(t *testing.T) {
	t.Helper()
	require.Eventually(t, b.Healthy, waitMax, look)
}

func (b *bundle) becomesUnhealthy(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return !b.Healthy() }, waitMax, look)
}

// aggregates makes n ids whose order is that of their making.
func aggregates(n int) []uuid.UUID {
	ids := make([]uuid.UUID, n)
	for i := range ids {
		ids[i] = uuid.New()
	}
	return ids
}

var tenant = uuid.MustParse("11111111-1111-4111-8111-111111111111")

func message(aggregate uuid.UUID, seq int32) cloudevent.Message {
	id := cloudevent.ID(aggregate, seq)
	return cloudevent.Message{
		ID: id, Type: "thing.moved", TenantID: tenant, AggregateID: aggregate, Seq: seq,
		Body: []byte(`{"id":"` + id + `"}`),
	}
}

// history is the first n messages of an aggregate.
func history(aggregate uuid.UUID, n int32) []cloudevent.Message {
	var messages []cloudevent.Message
	for seq := range n {
		messages = append(messages, message(aggregate, seq+1))
	}
	return messages
}
