package outbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
)

// strangersIdleConns bounds the connections that are kept to all strangers together.
const strangersIdleConns = 512

// ErrAddress is the cause when a call would have gone to an address that is not allowed. Nothing was sent.
var ErrAddress = errors.New("address is not allowed")

// Strangers makes the transport for hosts that others name. The clients of any number of hosts share it.
//
// Invariant: every address that is dialled is looked at after its name was resolved, so a name cannot mean
// something else when it is called than when it was checked.
type Strangers struct {
	// Allowed says whether an address may be called.
	Allowed func(netip.Addr) bool
	// Resolver resolves names; nil is the system's.
	Resolver *net.Resolver
	// IdlePerHost is how many connections are kept to one host.
	IdlePerHost int
}

// Transport verifies certificates, follows nothing, and takes no proxy from the environment.
func (s Strangers) Transport() http.RoundTripper {
	transport := over(&net.Dialer{
		Timeout: dialTimeout, KeepAlive: keepAlive, Resolver: s.Resolver, ControlContext: s.check,
	}, s.IdlePerHost)
	transport.MaxIdleConns = strangersIdleConns
	return transport
}

// check is called for each address before its connection is made.
func (s Strangers) check(_ context.Context, _, address string, _ syscall.RawConn) error {
	ip, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAddress, err)
	}
	if !s.Allowed(ip.Addr()) {
		return ErrAddress
	}
	return nil
}
