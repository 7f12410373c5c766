package bench

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/loadtest/rig"
)

// waitMax bounds what a test waits for.
const waitMax = 10 * time.Second

func connTo(t *testing.T, addr string) *conn {
	t.Helper()
	c, err := dial(t.Context(), addr, time.Now().Add(waitMax)) //nolint:forbidigo // a socket's deadline
	require.NoError(t, err)
	t.Cleanup(c.close)
	return c
}

func serverWith(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func trafficTo(addr string, accounts int) *traffic {
	s := rig.Tenant{Key: "hf_test_key"}
	for range accounts {
		s.Accounts = append(s.Accounts, uuid.New())
	}
	return newTraffic(addr, s, 7)
}

func TestOneConnectionServesManyRequests(t *testing.T) {
	t.Parallel()
	remotes := make(chan string, 3)
	addr := serverWith(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		remotes <- r.RemoteAddr
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, strings.Repeat("x", 700))
	})
	c, request := connTo(t, addr), trafficTo(addr, 2).newRequest(0)
	for range cap(remotes) {
		a, err := c.do(request.fresh())
		require.NoError(t, err)
		require.Equal(t, answer{status: http.StatusAccepted, length: 700}, a)
	}
	first := <-remotes
	require.Equal(t, first, <-remotes)
	require.Equal(t, first, <-remotes)
}

func TestARefusalTellsWhenToComeAgain(t *testing.T) {
	t.Parallel()
	addr := serverWith(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "2")
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	a, err := connTo(t, addr).do(trafficTo(addr, 2).newRequest(0).fresh())
	require.NoError(t, err)
	require.Equal(t, answer{status: 503, retryAfter: 2 * time.Second, closes: true}, a)
}

func TestARequestIsWhatTheContractWants(t *testing.T) {
	t.Parallel()
	traffic := trafficTo("127.0.0.1:1", 3)
	request, other := traffic.newRequest(0), traffic.newRequest(1)
	keys := map[string]bool{}
	body := `^\{"from_account":"[0-9a-f-]{36}","to_account":"[0-9a-f-]{36}",` +
		`"amount":\{"value":[1-9]\d\d,"currency":"EUR"\}\}$`
	for range 50 {
		for _, text := range [][]byte{request.fresh(), other.fresh()} {
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(text))))
			require.NoError(t, err)
			require.Equal(t, "POST /v1/transfers", r.Method+" "+r.URL.Path)
			require.Equal(t, "Bearer hf_test_key", r.Header.Get("Authorization"))
			keys[r.Header.Get("Idempotency-Key")] = true
			sent, err := io.ReadAll(r.Body)
			require.NoError(t, err)
			require.Len(t, sent, int(r.ContentLength))
			require.Regexp(t, body, string(sent))
			require.NotEqual(t, string(sent[17:53]), string(sent[69:105]), "never to itself")
		}
	}
	require.Len(t, keys, 100, "every request has a key of its own")
}

// answering is a server that says the same to everybody, also what net/http would not.
func answering(t *testing.T, text string) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(c, text)
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func TestAnAnswerThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nothing":          "",
		"not http":         "hello\r\n\r\n",
		"no number":        "HTTP/1.1 abc\r\n\r\n",
		"no length":        "HTTP/1.1 200 OK\r\n\r\n",
		"negative length":  "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"too long":         "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
		"chunked":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"cut off":          "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
		"line too long":    "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", lineMaxBytes) + "\r\n\r\n",
		"too many headers": "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", headersMax) + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := answering(t, text)
			_, err := connTo(t, addr).do(trafficTo(addr, 2).newRequest(0).fresh())
			require.Error(t, err)
		})
	}
}

func TestHeaderNamesAreReadInAnyCase(t *testing.T) {
	t.Parallel()
	addr := answering(t, "HTTP/1.1 503 Busy\r\ncontent-length: 2\r\nRETRY-AFTER: 1\r\n\r\nok")
	a, err := connTo(t, addr).do(trafficTo(addr, 2).newRequest(0).fresh())
	require.NoError(t, err)
	require.Equal(t, answer{status: 503, retryAfter: time.Second, length: 2}, a)
}
