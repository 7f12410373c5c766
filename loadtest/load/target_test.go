package load

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestOnlyNearTargetsAreLoaded(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"127.0.0.1": true, "::1": true, "10.1.2.3": true, "172.20.0.1": true, "192.168.1.1": true,
		"fd00::1":         true,
		"::ffff:10.0.0.1": true, "8.8.8.8": false, "2001:db8::1": false, "169.254.169.254": false,
		"0.0.0.0": false, "100.64.0.1": false,
	} {
		require.Equal(t, want, near(netip.MustParseAddr(address)), address)
	}
	require.ErrorIs(t, refuseFar("tcp", "203.0.113.9:443", nil), errElsewhere)
	require.NoError(t, refuseFar("tcp", "[::1]:443", nil))
	require.Error(t, refuseFar("tcp", "nonsense", nil))

	_, o := serve(t)
	o.URL = "http://203.0.113.9" // nobody is there: it is of a documentation network
	_, err := Run(t.Context(), o)
	require.ErrorIs(t, err, errElsewhere, "nothing is sent")
}

func TestAnAddressHasToBeOne(t *testing.T) {
	t.Parallel()
	base, err := baseOf("https://api.example.com/holdfast/?x#y")
	require.NoError(t, err)
	require.Equal(t, "https://api.example.com/holdfast", base)
	for _, bad := range []string{
		"", "localhost:8080", "ftp://localhost", "http://", "http://me:secret@localhost",
	} {
		_, err := baseOf(bad)
		require.Error(t, err, bad)
	}
}

func TestAKeyThatLacksAScopeIsRefusedBeforeTheLoad(t *testing.T) {
	t.Parallel()
	f, o := serve(t)
	f.without = http.StatusForbidden
	_, err := Run(t.Context(), o)
	require.ErrorContains(t, err, "key 1 (standard): this key lacks a scope")
	require.ErrorContains(t, err, allScopes)
	require.Zero(t, f.n)
}

func TestWhatCannotBeLoadedSaysWhy(t *testing.T) {
	t.Parallel()
	closed, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	for says, change := range map[string]func(*Options){
		"is it up":               func(o *Options) { o.URL = "http://" + closed.Addr().String() },
		"is that the public API": func(o *Options) { o.URL = other.URL },
		"does not know this key": func(o *Options) { o.Keys[0].Secret = "hf_test_other" },
		"there is no mix":        func(o *Options) { o.Mix = "porridge" },
		"there is no profile":    func(o *Options) { o.Profile = "square" },
		"the rate is":            func(o *Options) { o.Rate = rateMax + 1 },
		"the duration":           func(o *Options) { o.Duration = 48 * time.Hour },
		"number of requests":     func(o *Options) { o.RequestsMax = RequestsMax + 1 },
		"number of callers":      func(o *Options) { o.Callers = 0 },
		"number of keys":         func(o *Options) { o.Keys = nil },
		"is no URL":              func(o *Options) { o.URL = "localhost" },
		"has no money to move":   func(o *Options) { o.Fund = 999_999_999_999 },
		"--funder":               func(o *Options) { o.Funders = []uuid.UUID{uuid.New()} },
	} {
		_, o := serve(t)
		change(&o)
		_, err := Run(t.Context(), o)
		require.ErrorContains(t, err, says)
	}
}
