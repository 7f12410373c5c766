package broker_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// stub plays a stream on a server without JetStream, so that a test says what is acknowledged, and when.
type stub struct {
	*natsServer
	conn *nats.Conn
	// sent is what arrived, in its order.
	sent chan *nats.Msg
}

func newStub(t *testing.T) *stub {
	t.Helper()
	s := &stub{natsServer: newServer(t, withoutJetStream), sent: make(chan *nats.Msg, 1_000)}
	s.conn = s.connect(t)
	info, err := json.Marshal(jetstream.StreamInfo{Config: jetstream.StreamConfig{
		Name: streamName, Subjects: []string{"holdfast.events.>"},
	}})
	require.NoError(t, err)
	_, err = s.conn.Subscribe("$JS.API.STREAM.INFO."+streamName, func(m *nats.Msg) { _ = m.Respond(info) })
	require.NoError(t, err)
	_, err = s.conn.Subscribe("holdfast.events.>", func(m *nats.Msg) { s.sent <- m })
	require.NoError(t, err)
	require.NoError(t, s.conn.Flush())
	return s
}

// next waits for the next message.
func (s *stub) next(t *testing.T) *nats.Msg {
	t.Helper()
	select {
	case m := <-s.sent:
		return m
	case <-t.Context().Done():
		require.FailNow(t, "nothing came")
		return nil
	}
}

// nothingMore shows that everything that was sent has been looked at.
func (s *stub) nothingMore(t *testing.T) {
	t.Helper()
	require.NoError(t, s.conn.Flush()) // the server has handed on what it had
	require.Empty(t, s.sent)
}

func acknowledge(t *testing.T, messages ...*nats.Msg) {
	t.Helper()
	for i, m := range messages {
		require.NoError(t, m.Respond(fmt.Appendf(nil, `{"stream":%q,"seq":%d}`, streamName, i+1)))
	}
}

func refuse(t *testing.T, m *nats.Msg) {
	t.Helper()
	require.NoError(t, m.Respond([]byte(`{"error":{"code":503,"description":"it is full"}}`)))
}

func id(m *nats.Msg) string { return m.Header.Get("Nats-Msg-Id") }

// wire is a connection between a broker and a server that the test can tamper with.
type wire struct {
	listener net.Listener
	server   string

	mu      sync.Mutex
	changed *sync.Cond
	frozen  bool
	clients []net.Conn
	group   sync.WaitGroup
}

func newWire(t *testing.T, s *natsServer) *wire {
	t.Helper()
	w := &wire{server: strings.TrimPrefix(s.url(), "nats://")}
	w.changed = sync.NewCond(&w.mu)
	var err error
	w.listener, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w.group.Go(w.accept)
	t.Cleanup(func() {
		_ = w.listener.Close()
		w.freeze(false)
		w.cut()
		w.group.Wait()
	})
	return w
}

func (w *wire) url() string { return "nats://" + w.listener.Addr().String() }

func (w *wire) accept() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", w.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		w.mu.Lock()
		w.clients = append(w.clients, client)
		w.mu.Unlock()
		w.group.Go(func() { w.carry(server, client) })
		w.group.Go(func() { w.carry(client, server) })
	}
}

// carry carries bytes one way, unless the wire is frozen.
func (w *wire) carry(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 4<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		w.mu.Lock()
		for w.frozen {
			w.changed.Wait()
		}
		w.mu.Unlock()
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// freeze lets nothing pass any more, and keeps connections as they are.
func (w *wire) freeze(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frozen = on
	w.changed.Broadcast()
}

// say sends words to all clients as if they came from the server.
func (w *wire) say(t *testing.T, words string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.clients {
		_, err := io.WriteString(c, words)
		require.NoError(t, err)
	}
}

// cut ends all connections.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.clients {
		_ = c.Close()
	}
	w.clients = nil
}
