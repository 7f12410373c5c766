package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

const (
	// connectMax bounds a connection's beginning.
	connectMax = 5 * time.Second
	// idleMax is how long a connection without a request is kept.
	idleMax = 30 * time.Second
)

var errElsewhere = errors.New("the target is neither this machine nor in a private network: " +
	"load only what is yours, and say --anywhere if this is")

// near says whether an address is this machine's, or one of a private network.
func near(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a.IsPrivate()
}

// refuseFar is asked before every connection, so that no name leads elsewhere later on.
func refuseFar(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", address, err)
	}
	if !near(to.Addr()) {
		return fmt.Errorf("connect to %s: %w", to.Addr(), errElsewhere)
	}
	return nil
}

// baseOf reads the target's address.
func baseOf(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		return "", fmt.Errorf("load: %q is no URL of an API, such as http://127.0.0.1:8080", text)
	}
	return strings.TrimRight(u.Scheme+"://"+u.Host+u.Path, "/"), nil
}

// newHTTPClient keeps a connection for each caller. It follows nothing and knows no proxy.
func newHTTPClient(callers int, anywhere bool) *http.Client {
	dialer := &net.Dialer{Timeout: connectMax}
	if !anywhere {
		dialer.Control = refuseFar
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSHandshakeTimeout: connectMax, IdleConnTimeout: idleMax,
			MaxIdleConns: callers, MaxIdleConnsPerHost: callers,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// reachable says in time what is wrong with an address.
func reachable(ctx context.Context, h *http.Client, base string) error {
	ctx, cancel := context.WithTimeout(ctx, connectMax)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/livez", http.NoBody)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	answer, err := h.Do(request)
	if err != nil && errors.Is(err, errElsewhere) {
		return fmt.Errorf("load: %w", err)
	}
	if err != nil {
		return fmt.Errorf("load: nothing answers at %s; is it up (make up)? %w", base, err)
	}
	_ = answer.Body.Close() // the status says it all
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("load: %s/livez answers %d: is that the public API of Holdfast?", base,
			answer.StatusCode)
	}
	return nil
}
