package simdep

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
)

const (
	maxBodyBytes   = 64 << 10
	newBufferBytes = 1 << 10
)

func newBuffer() any { return bytes.NewBuffer(make([]byte, 0, newBufferBytes)) }

// read hands the body to use and takes it back afterwards; use keeps no part of it.
func (s *Server) read(body io.Reader, use func(body []byte) reply) reply {
	buffer, _ := s.buffers.Get().(*bytes.Buffer)
	defer s.buffers.Put(buffer)
	buffer.Reset()
	if body != nil {
		if _, err := buffer.ReadFrom(io.LimitReader(body, maxBodyBytes+1)); err != nil {
			return refuse(http.StatusBadRequest, "body: "+err.Error())
		}
	}
	if buffer.Len() > maxBodyBytes {
		return refuse(http.StatusRequestEntityTooLarge, "body is larger than 64 KiB")
	}
	return use(buffer.Bytes())
}

// ServeHTTP serves one request; a reply that is lost takes its connection along.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	result := s.read(r.Body, func(body []byte) reply { return s.handle(s.closing, r, body) })
	switch result.fate {
	case wasReset:
		resetConnection(w)
	case hung, replyLost:
		panic(http.ErrAbortHandler) // net/http's way to close without a reply
	case answered, failed:
		header := w.Header()
		header.Set("Content-Type", "application/json")
		header.Set("Content-Length", strconv.Itoa(len(result.body)))
		w.WriteHeader(result.status)
		_, _ = w.Write(result.body) // a caller that left misses its reply
	}
}

// resetConnection closes so that the caller reads a reset instead of an end.
func resetConnection(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// RoundTripper serves requests inside the caller's process, without sockets, by the same rules.
// A caller that leaves cuts the latency short, not the effect.
func (s *Server) RoundTripper() http.RoundTripper { return inProcess{server: s} }

type inProcess struct{ server *Server }

// RoundTrip returns what the wire would have brought.
func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	var body io.Reader
	if r.Body != nil {
		body = r.Body
		defer func() { _ = r.Body.Close() }()
	}
	result := p.server.read(body, func(body []byte) reply { return p.server.handle(ctx.Done(), r, body) })
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	switch result.fate {
	case wasReset:
		return nil, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	case hung, replyLost:
		return nil, io.ErrUnexpectedEOF
	case answered, failed:
	}
	return &http.Response{
		Status:        strconv.Itoa(result.status) + " " + http.StatusText(result.status),
		StatusCode:    result.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        http.Header{"Content-Type": {"application/json"}},
		ContentLength: int64(len(result.body)),
		Body:          io.NopCloser(bytes.NewReader(result.body)),
		Request:       r,
	}, nil
}
