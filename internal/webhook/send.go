package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/tracing"
)

// The outcomes of an attempt.
const (
	OutcomeDelivered   = "delivered"   // a status of 2xx
	OutcomeRefused     = "refused"     // 4xx
	OutcomeFailed      = "failed"      // 5xx
	OutcomeUnexpected  = "unexpected"  // any other status: a redirect, say
	OutcomeTimeout     = "timeout"     // no status in time
	OutcomeUnreachable = "unreachable" // no connection
	OutcomeCutOff      = "cut_off"     // the connection ended before the status
	OutcomeBlocked     = "blocked"     // its address may not be called
	OutcomeUnwritten   = "unwritten"   // the event could not be written as a message
)

const (
	// failuresAlone is after how many failed attempts, with none that succeeded, a round begins no other one.
	failuresAlone = 4

	statusGone    = 410
	textUnwritten = "the event could not be written as a message"
	userAgent     = "Holdfast-Webhooks"
	post          = "POST"
)

// result is what came of an item that was tried.
type result struct {
	tried, delivered bool
	// deferred items were not tried for want of a place, or since too many others failed.
	deferred bool
	outcome  string
	status   int
	text     string        // what a tenant may know of an error
	after    time.Duration // what the receiver asked to wait
	at       time.Time     // when it began, by the process's clock
	took     time.Duration
}

// sender counts what comes of a round while it is on its way.
type sender struct {
	h                 *hand
	keys              [][]byte
	until             time.Time
	delivered, failed atomic.Int64
}

// send sends what was chosen: different aggregates side by side, one in order up to its first failure. What
// is on its way when the process stops is waited for.
func (h *hand) send(ctx context.Context, r *round) {
	s := &sender{h: h, keys: h.keys(), until: h.asked.Add(sendMax)}
	var group errgroup.Group
	group.SetLimit(flightMax)
	for _, items := range inOrder(r.all()) {
		group.Go(func() error {
			for _, i := range items {
				if i.result.tried || !s.may(ctx) {
					break // it could not be written
				}
				s.try(context.WithoutCancel(ctx), i)
				if !i.result.delivered {
					break
				}
			}
			return nil
		})
	}
	_ = group.Wait() // results are in the items
}

// keys are what messages are signed with now.
func (h *hand) keys() [][]byte {
	keys := [][]byte{secretKey(h.d.Key, h.e.ID, h.e.SecretVersion)}
	if h.e.PreviousUntil != nil && h.d.Now().Before(*h.e.PreviousUntil) {
		keys = append(keys, secretKey(h.d.Key, h.e.ID, h.e.SecretVersion-1))
	}
	return keys
}

// inOrder groups the chosen items: what is in one group is sent one after the other.
func inOrder(items []*item) [][]*item {
	type key struct {
		kind      string
		aggregate uuid.UUID
	}
	var groups [][]*item
	nth := map[key]int{}
	for _, i := range items {
		if !i.chosen {
			continue
		}
		k := key{i.kind, i.event.AggregateID}
		n, ok := nth[k]
		if !ok {
			n = len(groups)
			nth[k] = n
			groups = append(groups, nil)
		}
		groups[n] = append(groups[n], i)
	}
	return groups
}

// may says whether another attempt may begin.
func (s *sender) may(ctx context.Context) bool {
	return ctx.Err() == nil && s.h.d.Now().Before(s.until) &&
		(s.delivered.Load() > 0 || s.failed.Load() < failuresAlone)
}

func (s *sender) try(ctx context.Context, i *item) {
	d := s.h.d
	ctx, span := tracing.Follow(ctx, tracing.Producer, "deliver webhook", i.event.Trace)
	defer func() { i.end(span) }()
	i.result.at = d.Now()
	header, err := s.header(i.message, i.result.at)
	var response outbound.Response
	if err == nil {
		response, err = s.h.client.Do(ctx, outbound.Call{
			Operation: "deliver", Method: post, Path: s.h.path, Header: header, Body: i.message.Body,
			ContentType: cloudevent.ContentType, MaxResponseBytes: replyMaxBytes, StatusOnly: true,
		})
	}
	i.result.took = max(d.Now().Sub(i.result.at), 0)
	i.result.judge(response.Status, err)
	switch {
	case i.result.delivered:
		s.delivered.Add(1)
	case i.result.tried:
		s.failed.Add(1)
	}
	if o := d.Observer.Attempted; o != nil && i.result.tried {
		o(i.kind, i.result.outcome, i.result.took)
	}
}

// end says of an attempt what a tenant may know of it.
func (i *item) end(span tracing.Span) {
	if !span.On() {
		return
	}
	span.Text("holdfast.event_type", i.event.Type)
	span.Text("holdfast.outcome", i.result.outcome)
	span.Int("holdfast.attempt", int(i.attempts)+1)
	if !i.result.delivered {
		span.Fail(i.result.text)
	}
	span.End(nil)
}

func (s *sender) header(m cloudevent.Message, at time.Time) (map[string]string, error) {
	signed, err := signature(s.keys, m.ID, at, m.Body)
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"User-Agent": userAgent, "webhook-id": m.ID, "webhook-signature": signed,
		"webhook-timestamp": strconv.FormatInt(at.Unix(), 10),
	}, nil
}

// judge turns the end of a call into an outcome, and says no more of it than a tenant may know: the error
// itself names addresses inside.
func (r *result) judge(status int, err error) {
	if err == nil {
		r.tried, r.delivered, r.outcome, r.status = true, true, OutcomeDelivered, status
		return
	}
	failure, ok := errors.AsType[*outbound.Error](err)
	if !ok { // it could not be signed
		r.tried, r.outcome, r.text = true, OutcomeUnwritten, textUnwritten
		return
	}
	r.tried, r.status, r.after = true, failure.Status, failure.RetryAfter
	switch failure.Kind {
	case outbound.KindTimeout:
		r.outcome, r.text = OutcomeTimeout, fmt.Sprintf("no reply within %s", callMax)
	case outbound.KindUnreachable:
		r.outcome, r.text = OutcomeUnreachable, unreachable(err)
		if errors.Is(err, outbound.ErrAddress) {
			r.outcome, r.text = OutcomeBlocked, "its address is not public"
		}
	case outbound.KindAmbiguous:
		r.outcome, r.text = OutcomeCutOff, "the connection ended before the reply"
	case outbound.KindStatus5xx:
		r.outcome, r.text = OutcomeFailed, fmt.Sprintf("replied %d", r.status)
	case outbound.KindStatus4xx:
		r.outcome, r.text = OutcomeRefused, fmt.Sprintf("replied %d", r.status)
	case outbound.KindBadReply:
		r.outcome, r.text = OutcomeUnexpected, fmt.Sprintf("replied %d", r.status)
	case outbound.KindOK, outbound.KindInTransaction, outbound.KindOpen, outbound.KindRetryBudget,
		outbound.KindFull, outbound.KindNoBudget, outbound.KindWithheld, outbound.KindCanceled:
		r.tried, r.deferred = false, true
	}
}

// unreachable says why there was no connection.
func unreachable(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsNotFound {
			return "its host does not exist"
		}
		return "its host could not be looked up"
	}
	if unknown, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return unknown.Error()
	}
	if invalid, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "its certificate is not valid for it: " + clipped(invalid.Err.Error())
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "the connection was refused"
	}
	return "no connection"
}

// clipped keeps a text storable: some of what is in a certificate is whatever its owner likes.
func clipped(text string) string {
	const most = 200
	var kept []rune
	for _, r := range text {
		if len(kept) == most {
			break
		}
		if r >= ' ' && r != 0x7f && r != '\ufffd' {
			kept = append(kept, r)
		}
	}
	return string(kept)
}
