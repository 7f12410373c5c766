package outbound

import (
	"net"
	"net/http"
	"time"
)

const (
	dialTimeout      = 5 * time.Second
	keepAlive        = 15 * time.Second
	tlsTimeout       = 5 * time.Second
	idleConnTimeout  = 60 * time.Second
	maxHeaderBytes   = 16 << 10
	minIdlePerClient = 256 // room for a bulkhead that grows at run time
)

// newTransport returns a transport that keeps a connection for every call in flight. It speaks
// HTTP/1.1 only, since over HTTP/2 net/http has retries of its own, and takes no proxy from the
// environment, which would be a second way out.
func newTransport(limit int) *http.Transport {
	return over(&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}, max(limit, minIdlePerClient))
}

func over(dialer *net.Dialer, idlePerHost int) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            dialer.DialContext,
		Protocols:              protocols,
		TLSHandshakeTimeout:    tlsTimeout,
		MaxIdleConnsPerHost:    idlePerHost,
		IdleConnTimeout:        idleConnTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableCompression:     true,
	}
}
