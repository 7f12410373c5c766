package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"example.com/holdfast/internal/problem"
)

// retryAfterBusy is what a client is told to wait when there is no better estimate.
const retryAfterBusy = time.Second

// front is what every request of a listener goes through first and leaves last: it gives the request
// an id, bounds how many are in flight, catches panics and writes the log line.
type front struct {
	*shared

	router *chi.Mux
}

// recorder knows what was answered.
type recorder struct {
	http.ResponseWriter

	status int
}

// WriteHeader remembers the status.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write remembers that the answer has begun.
func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// ServeHTTP serves one request.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, err := uuid.NewV7()
	if err != nil {
		id = uuid.Nil // no randomness: the request is served, its id says nothing
	}
	c := &call{requestID: id.String(), started: f.cfg.Now(), header: r.Header, url: r.URL, strict: f.strict}
	rec := &recorder{ResponseWriter: w}
	ctx := context.WithValue(r.Context(), callKey{}, c)
	h := w.Header()
	h.Set("X-Request-Id", c.requestID)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	defer f.finish(ctx, c, rec, r)
	defer func() {
		if !c.aside {
			f.inFlight.Add(-1)
		}
	}()
	if f.inFlight.Add(1) > int64(f.cfg.InFlightMax) {
		p := problem.New(problem.Overloaded, "Too many requests are in flight.")
		p.RetryAfter = soon()
		f.cfg.Metrics.Shed("in_flight")
		f.fail(rec, c, p)
		return
	}
	f.router.ServeHTTP(rec, r.WithContext(ctx))
}

// finish answers for an operation that panicked, counts the request and writes the log line.
func (f *front) finish(ctx context.Context, c *call, rec *recorder, r *http.Request) {
	//nolint:revive // defer: ServeHTTP defers this very function
	if fault := recover(); fault != nil {
		if err, ok := fault.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			c.endTrace(rec.status)
			panic(fault) // the server's way to drop a connection
		}
		f.cfg.Log.LogAttrs(ctx, slog.LevelError, "panic in a request",
			slog.String("request_id", c.requestID), slog.String("stack", string(debug.Stack())))
		err := fmt.Errorf("panic: %v", fault)
		if rec.status == 0 {
			f.fail(rec, c, err)
		} else {
			c.code, c.err = problem.Internal, err
		}
	}
	route := "none"
	if c.route != nil {
		route = c.route.label()
	}
	took := f.cfg.Now().Sub(c.started)
	f.cfg.Metrics.Request(route, strconv.Itoa(rec.status), took)
	if failed(c.code) {
		f.cfg.Metrics.Failed()
	}
	f.logLine(ctx, c, rec.status, took, r.Method)
	c.endTrace(rec.status) // last: a span that has ended names its trace no more
}

// failed says whether an answer tells that we could not do what was asked, or do not know whether we did.
func failed(code problem.Code) bool {
	return code == problem.Internal || code == problem.Unavailable || code == problem.DeadlineExceeded
}

// logMaxAttrs is the most that one line holds.
const logMaxAttrs = 12

func (f *front) logLine(ctx context.Context, c *call, status int, took time.Duration, method string) {
	level := slog.LevelInfo
	if c.code == problem.Internal {
		level = slog.LevelError
	}
	if !f.cfg.Log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, logMaxAttrs)
	attrs = append(attrs, slog.String("method", method), slog.Int("status", status),
		slog.Int64("duration_us", took.Microseconds()),
		slog.String("request_id", c.requestID))
	if c.route != nil {
		attrs = append(attrs, slog.String("route", c.route.pattern))
	}
	if id := c.origin().traceID; id != "" {
		attrs = append(attrs, slog.String("trace_id", id))
	}
	if c.keyID != "" {
		attrs = append(attrs, slog.String("key_id", c.keyID))
	}
	if c.tenantID != uuid.Nil {
		attrs = append(attrs, slog.String("tenant_id", c.tenantID.String()))
	}
	if c.replayed {
		attrs = append(attrs, slog.Bool("replayed", true))
	}
	if c.code != "" {
		attrs = append(attrs, slog.String("problem", string(c.code)))
	}
	if c.err != nil {
		attrs = append(attrs, slog.String("error", c.err.Error()))
	}
	f.cfg.Log.LogAttrs(ctx, level, "request", attrs...)
}
