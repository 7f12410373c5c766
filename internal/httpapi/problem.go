package httpapi

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"example.com/holdfast/internal/groupcommit"
	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
)

const (
	typeJSON    = "application/json"
	typeProblem = "application/problem+json"
	// problemPages is where the type of a problem leads.
	problemPages = "/problems/"
)

// shared is what both listeners work with.
type shared struct {
	cfg    Config
	signIn signIn
	strict jsonv2.Options
	// limits is nil where nobody's rate is limited.
	limits *limiter
	// room is nil where nobody belongs to a tenant.
	room *room
	// inFlight counts the requests, but for streams.
	inFlight atomic.Int64
	// waiting counts the requests that wait for the end of a transfer or an order, or for an event.
	waiting waiting
	// streaming counts the streams, and streamRoom those of each tenant.
	streaming  waiting
	streamRoom *room
}

// meaning is the table's, but for the one status that is a setting.
func (s *shared) meaning(code problem.Code) problem.Meaning {
	m := problem.MeaningOf(code)
	if code == problem.KeyReused && s.cfg.KeyReusedStatus != 0 {
		m.Status = s.cfg.KeyReusedStatus
	}
	return m
}

// fail answers a request with the problem that err is. It is the one place where a refusal is written.
func (s *shared) fail(w http.ResponseWriter, c *call, err error) {
	p := explain(err)
	if errors.Is(err, groupcommit.ErrFull) {
		s.cfg.Metrics.Shed("waiting")
	}
	m := s.meaning(p.Code)
	c.code = p.Code
	if m.Status >= http.StatusInternalServerError { // below, the code says it all
		c.err = err
	}
	h := w.Header()
	if p.RetryAfter > 0 {
		h.Set("Retry-After", seconds(p.RetryAfter))
	}
	if m.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	if p.Code == problem.BodyTooLarge || p.Code == problem.RequestTimeout {
		h.Set("Connection", "close") // what is left of the body is not worth reading
	}
	write(w, typeProblem, m.Status, s.problemBody(p, c.origin()))
}

// seconds rounds up: who comes back after them has waited long enough.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

func write(w http.ResponseWriter, contentType string, status int, text []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text) //nolint:gosec // G705: never HTML, and a client that has gone needs no answer
}

// render puts a problem into the form of the contract.
func (s *shared) render(p *problem.Error, from origin) publicapi.Problem {
	m := s.meaning(p.Code)
	out := publicapi.Problem{
		Type: problemPages + string(m.Code), Title: m.Title, Code: string(m.Code),
		Status: int32(m.Status), //nolint:gosec // three digits
		Detail: p.Detail, Retryable: m.Retryable, SafeNewKey: m.SafeNewKey, RequestID: from.requestID,
		TraceID: from.traceID,
	}
	for _, f := range p.Fields {
		out.Errors = append(out.Errors, publicapi.ProblemField{Pointer: f.Pointer, Detail: f.Detail})
	}
	return out
}

func (s *shared) problemBody(p *problem.Error, from origin) []byte {
	return marshal(s.render(p, from))
}

// refusal is a stored refusal of a keyed request: its replays name the request that was first.
func (s *shared) refusal(p *problem.Error, from origin) idempotency.Response {
	return idempotency.Response{Status: s.meaning(p.Code).Status, Body: s.problemBody(p, from)}
}

// marshal writes a type of the contract. These types always marshal; a text that is not UTF-8, which
// only a damaged row could hold, is mended.
func marshal(v any) []byte {
	text, err := jsonv2.Marshal(v, writeOptions())
	if err != nil {
		return []byte(`null`)
	}
	return text
}

// explain finds the problem that an error of a service means to a client.
func explain(err error) *problem.Error {
	var p *problem.Error
	var network net.Error
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), stoppedByServer(err):
		return problem.Wrap(problem.DeadlineExceeded, err, "The time for this request is up.")
	case errors.Is(err, groupcommit.ErrFull):
		p := problem.Wrap(problem.Overloaded, err, "Too much work is waiting already.")
		p.RetryAfter = soon()
		return p
	case errors.Is(err, groupcommit.ErrStopped):
		return later(problem.Unavailable, err, "This instance is stopping.")
	case pgtx.Unknown(err), pgtx.Busy(err), pgtx.Unconnected(err), outOfReach(err), errors.As(err, &network),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return later(problem.Unavailable, err, "The database does not answer as it should.")
	}
	return problem.Of(err)
}

// soon is what a client is told to wait that was refused for too much work: around a second, so that those
// who were refused together do not come back together.
func soon() time.Duration { return retryAfterBusy/2 + rand.N(retryAfterBusy) }

func later(code problem.Code, err error, detail string) *problem.Error {
	p := problem.Wrap(code, err, detail)
	p.RetryAfter = retryAfterBusy
	return p
}

// codeCanceled is the SQLSTATE of a statement that ran into statement_timeout, which is the
// request's deadline as the database knows it.
const codeCanceled = "57014"

func stoppedByServer(err error) bool { return pgtx.Code(err) == codeCanceled }

// outOfReach says that the SQLSTATE is of a connection that failed (class 08), of too few resources
// (53) or of an operator's intervention (57).
func outOfReach(err error) bool {
	code := pgtx.Code(err)
	return len(code) == 5 && (code[:2] == "08" || code[:2] == "53" || code[:2] == "57")
}
