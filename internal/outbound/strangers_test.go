package outbound_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbound"
)

// nameServer answers every question with the address that is set, and returns a resolver that asks it.
func nameServer(t *testing.T, address *atomic.Value) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			ip, _ := address.Load().(netip.Addr)
			_, _ = conn.WriteTo(named(buf[:n], ip), from)
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// named is a DNS reply to the one question of a message: the address, for a question of its family.
func named(question []byte, ip netip.Addr) []byte {
	const header, typeA, typeAAAA, class, ttl = 12, 1, 28, 1, 1
	end := header
	for question[end] != 0 {
		end += 1 + int(question[end])
	}
	end += 5 // the root, type and class
	asked, given := binary.BigEndian.Uint16(question[end-4:]), uint16(typeA)
	if ip.Is6() {
		given = typeAAAA
	}
	reply := []byte{question[0], question[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}
	reply = append(reply, question[header:end]...)
	if asked != given {
		return reply
	}
	reply[7] = 1
	reply = append(reply, 0xc0, header)
	reply = binary.BigEndian.AppendUint16(reply, given)
	reply = binary.BigEndian.AppendUint16(reply, class)
	reply = binary.BigEndian.AppendUint32(reply, ttl)
	reply = binary.BigEndian.AppendUint16(reply, uint16(ip.BitLen()/8))
	return append(reply, ip.AsSlice()...)
}

// TestAnAddressIsCheckedWhenItIsDialled lets a name mean something harmless first and this machine later.
func TestAnAddressIsCheckedWhenItIsDialled(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	url := serve(t, func(http.ResponseWriter, *http.Request) { requests.Add(1) })
	at := netip.MustParseAddrPort(strings.TrimPrefix(url, "http://"))
	var address atomic.Value
	address.Store(at.Addr())
	resolver := nameServer(t, &address)

	var allowed atomic.Bool
	var asked atomic.Value
	transport := outbound.Strangers{Resolver: resolver, IdlePerHost: 1, Allowed: func(ip netip.Addr) bool {
		asked.Store(ip)
		return allowed.Load()
	}}.Transport()
	b := setup(t, "http://hook.test:"+strings.Split(url, ":")[2], func(c *outbound.Config) {
		c.Transport = transport
	})
	post := func() error {
		call := outbound.Call{Operation: "post", Method: http.MethodPost, Body: []byte("{}")}
		_, err := b.Do(t.Context(), call)
		return err
	}
	allowed.Store(true)
	require.NoError(t, post(), "the stand-in resolves")
	require.Equal(t, at.Addr(), asked.Load())
	require.EqualValues(t, 1, requests.Load())
	b.CloseIdle()

	allowed.Store(false)
	failure := failureOf(t, post())
	require.ErrorIs(t, failure, outbound.ErrAddress)
	require.Equal(t, outbound.KindUnreachable, failure.Kind)
	require.False(t, failure.Sent)
	require.EqualValues(t, 1, requests.Load(), "nothing arrived")

	address.Store(netip.MustParseAddr("::1"))
	require.ErrorIs(t, post(), outbound.ErrAddress)
	require.Equal(t, netip.MustParseAddr("::1"), asked.Load())
}

func TestStrangersCertificatesAreVerified(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a request arrived")
	}))
	server.Config.ErrorLog = nil
	t.Cleanup(server.Close)
	transport := outbound.Strangers{Allowed: func(netip.Addr) bool { return true }}.Transport()
	b := setup(t, server.URL, func(c *outbound.Config) { c.Transport = transport })
	_, err := b.Do(t.Context(), outbound.Call{Operation: "post", Method: http.MethodPost})
	failure := failureOf(t, err)
	require.Equal(t, outbound.KindUnreachable, failure.Kind)
	require.ErrorContains(t, err, "certificate")
}

func TestStrangersTakeNoProxyAndFollowNothing(t *testing.T) {
	t.Parallel()
	transport, ok := outbound.Strangers{}.Transport().(*http.Transport)
	require.True(t, ok)
	require.Nil(t, transport.Proxy)
	var requests atomic.Int64
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	b := setup(t, url, func(c *outbound.Config) {
		c.Transport = outbound.Strangers{Allowed: func(netip.Addr) bool { return true }}.Transport()
	})
	_, err := b.Do(t.Context(), outbound.Call{
		Operation: "post", Method: http.MethodPost, Body: []byte("{}"), StatusOnly: true,
	})
	failure := failureOf(t, err)
	require.Equal(t, outbound.KindBadReply, failure.Kind)
	require.Equal(t, http.StatusTemporaryRedirect, failure.Status)
	require.EqualValues(t, 1, requests.Load())
}

func TestACallHasHeadersAndAContentTypeOfItsOwn(t *testing.T) {
	t.Parallel()
	var got http.Header
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header })
	b := setup(t, url, nil)
	_, err := b.Do(t.Context(), outbound.Call{
		Operation: "post", Method: http.MethodPost, Body: []byte("x"), ContentType: "text/plain",
		Header: map[string]string{"webhook-id": "1", "User-Agent": "me", outbound.BudgetHeader: "no"},
	})
	require.NoError(t, err)
	require.Equal(t, "text/plain", got.Get("Content-Type"))
	require.Equal(t, "1", got.Get("Webhook-Id"))
	require.Equal(t, []string{"me"}, got.Values("User-Agent"))
	require.Equal(t, "10000", got.Get(outbound.BudgetHeader), "ours stay ours")
	require.NotContains(t, got, outbound.EffectKeyHeader)
}

func TestOfAStatusTheBodyMeansNothing(t *testing.T) {
	t.Parallel()
	blocked := make(chan struct{})
	t.Cleanup(func() { close(blocked) })
	for name, reply := range map[string]http.HandlerFunc{
		"large": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat("x", 1<<20))
		},
		"cut off": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "9") },
		"endless": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-blocked:
			}
		},
	} {
		b := setup(t, serve(t, reply), func(c *outbound.Config) { c.Timeout = 200 * time.Millisecond })
		call := outbound.Call{Operation: "post", Method: http.MethodPost, MaxResponseBytes: 4096}
		_, err := b.Do(t.Context(), call)
		require.Error(t, err, name)
		call.StatusOnly = true
		response, err := b.Do(t.Context(), call)
		require.NoError(t, err, name)
		require.Equal(t, outbound.Response{Status: http.StatusOK}, response)
	}
}
