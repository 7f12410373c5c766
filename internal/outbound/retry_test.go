package outbound_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbound"
)

// hangUp serves one good reply per connection and hangs up after it has read a second request:
// what a server looks like that dies at work on a kept-alive connection. It counts requests.
func hangUp(t *testing.T) (string, *atomic.Int64) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	requests := new(atomic.Int64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serveOnce(conn, requests)
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return "http://" + listener.Addr().String(), requests
}

func serveOnce(conn net.Conn, requests *atomic.Int64) {
	defer func() { _ = conn.Close() }()
	reader := bufio.NewReader(conn)
	for served := false; ; served = true {
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, request.Body)
		requests.Add(1)
		if served {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
	}
}

// TestNetHTTPWouldSendTwice is the control: without it, the next test would pass on any server.
func TestNetHTTPWouldSendTwice(t *testing.T) {
	t.Parallel()
	url, requests := hangUp(t)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	for range 2 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
		require.NoError(t, err)
		request.Header.Set("Idempotency-Key", "k")
		reply, err := client.Do(request)
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, reply.Body)
		require.NoError(t, reply.Body.Close())
	}
	require.EqualValues(t, 3, requests.Load(), "two calls, three requests, no error")
}

func TestOneCallIsOneRequest(t *testing.T) {
	t.Parallel()
	calls := map[string]outbound.Call{
		"effect": screening(),
		"read":   {Operation: "find", Method: http.MethodGet, Path: "/v1/effects/k"},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, requests := hangUp(t)
			b := setup(t, url, nil)
			_, err := b.Do(t.Context(), call)
			require.NoError(t, err)

			_, err = b.Do(t.Context(), call)
			require.Equal(t, outbound.KindAmbiguous, failureOf(t, err).Kind, "%v", err)
			require.EqualValues(t, 2, requests.Load(), "the second went out once, over the kept connection")
		})
	}
}
