package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// The bounds of an answer.
const (
	lineMaxBytes    = 4 << 10
	headersMax      = 64
	answerMaxBytes  = 1 << 20
	dialMax         = 5 * time.Second
	retryAfterLimit = time.Minute
)

// conn is a persistent HTTP/1.1 connection to our own API. It knows just enough of HTTP for that:
// answers with a Content-Length, or without a body.
type conn struct {
	net net.Conn
	in  *bufio.Reader
}

// answer is what the load generator looks at.
type answer struct {
	status     int
	retryAfter time.Duration
	length     int
	closes     bool
}

var errAnswer = errors.New("answer is not one that the load generator reads")

// dial opens a connection whose every read and write ends at the deadline.
func dial(ctx context.Context, addr string, deadline time.Time) (*conn, error) {
	d := net.Dialer{Timeout: dialMax}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	if err := c.SetDeadline(deadline); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &conn{net: c, in: bufio.NewReaderSize(c, lineMaxBytes)}, nil
}

func (c *conn) close() { _ = c.net.Close() } // nothing is lost: what was asked has been answered or failed

// do sends a whole request and reads the answer, without its body.
func (c *conn) do(request []byte) (answer, error) {
	if _, err := c.net.Write(request); err != nil {
		return answer{}, fmt.Errorf("send request: %w", err)
	}
	a, err := c.head()
	if err != nil {
		return answer{}, err
	}
	if _, err := c.in.Discard(a.length); err != nil {
		return answer{}, fmt.Errorf("read body: %w", err)
	}
	return a, nil
}

func (c *conn) line() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

// head reads the status line and the headers.
func (c *conn) head() (answer, error) {
	line, err := c.line()
	if err != nil {
		return answer{}, err
	}
	const statusEnd = len("HTTP/1.1 200")
	if len(line) < statusEnd || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return answer{}, fmt.Errorf("status line %q: %w", line, errAnswer)
	}
	a := answer{length: -1}
	if a.status, err = strconv.Atoi(string(line[statusEnd-3 : statusEnd])); err != nil {
		return answer{}, fmt.Errorf("status line %q: %w", line, errAnswer)
	}
	for range headersMax {
		if line, err = c.line(); err != nil {
			return answer{}, err
		}
		if len(line) == 0 {
			return a, a.complete()
		}
		if err := a.header(line); err != nil {
			return answer{}, err
		}
	}
	return answer{}, fmt.Errorf("more than %d headers: %w", headersMax, errAnswer)
}

// complete says how long the body is, once all headers are known.
func (a *answer) complete() error {
	if a.length >= 0 {
		return nil
	}
	if a.status != 204 && a.status != 304 {
		return fmt.Errorf("status %d without Content-Length: %w", a.status, errAnswer)
	}
	a.length = 0
	return nil
}

func (a *answer) header(line []byte) error {
	switch line[0] | 0x20 { // most headers end here
	case 'c', 't', 'r':
	default:
		return nil
	}
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimSpace(value)
	switch {
	case bytes.EqualFold(name, []byte("Content-Length")):
		n, err := strconv.Atoi(string(value))
		if err != nil || n < 0 || n > answerMaxBytes {
			return fmt.Errorf("Content-Length %q: %w", value, errAnswer)
		}
		a.length = n
	case bytes.EqualFold(name, []byte("Transfer-Encoding")):
		return fmt.Errorf("Transfer-Encoding %q: %w", value, errAnswer)
	case bytes.EqualFold(name, []byte("Connection")):
		a.closes = bytes.EqualFold(value, []byte("close"))
	case bytes.EqualFold(name, []byte("Retry-After")):
		if n, err := strconv.Atoi(string(value)); err == nil && n >= 0 {
			a.retryAfter = min(time.Duration(n)*time.Second, retryAfterLimit)
		}
	}
	return nil
}
