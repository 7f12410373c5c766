package simdep

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	maxCallbackDuplicates = 16
	maxCallbacks          = 16 // sent at once; the others wait for their turn
	callbackTimeout       = 5 * time.Second
	minSecretBytes        = 24 // as the Standard Webhooks scheme says

	secretPrefix = "whsec_"
)

// caller sends callbacks. They are sent once and never tried again: a receiver that has to know asks.
type caller struct {
	transport *http.Transport
	turns     chan struct{}
	now       func() time.Time
}

func newCaller(now func() time.Time) caller {
	if now == nil {
		now = time.Now //nolint:forbidigo // a program of its own, whose receivers have other clocks
	}
	return caller{
		transport: &http.Transport{MaxIdleConnsPerHost: maxCallbacks, IdleConnTimeout: idleTimeout},
		turns:     make(chan struct{}, maxCallbacks),
		now:       now,
	}
}

// message is one callback with its signature; its duplicates are the same to the byte.
type message struct {
	url    string
	header http.Header
	body   []byte
}

// callBack tells the receiver that the payout has ended, as often as the knobs say.
func (s *Server) callBack(ctx context.Context, p *pendingPayout, status PayoutStatus) {
	select {
	case s.caller.turns <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-s.caller.turns }()
	m, err := sign(p, status, s.caller.now())
	if err != nil {
		s.logCallback(ctx, p.key, status, err)
		return
	}
	for range 1 + p.knobs.CallbackDuplicates {
		if ctx.Err() != nil {
			return
		}
		err := s.caller.send(ctx, m)
		s.journal.calledBack(p.record, err == nil)
		s.logCallback(ctx, p.key, status, err)
	}
}

// sign writes the callback and signs it by the Standard Webhooks scheme.
func sign(p *pendingPayout, status PayoutStatus, at time.Time) (message, error) {
	signer, err := standardwebhooks.NewWebhook(p.knobs.CallbackSecret)
	if err != nil {
		return message{}, fmt.Errorf("sign callback: %w", err)
	}
	body, err := json.Marshal(struct {
		TenantID   string       `json:"tenant_id"`
		TransferID string       `json:"transfer_id"`
		Reference  string       `json:"reference"`
		Status     PayoutStatus `json:"status"`
	}{p.payout.TenantID, p.payout.TransferID, p.key, status})
	if err != nil {
		return message{}, fmt.Errorf("write callback: %w", err)
	}
	id := reference("msg", p.key+"#"+strconv.Itoa(p.nth))
	signature, err := signer.Sign(id, at, body)
	if err != nil {
		return message{}, fmt.Errorf("sign callback: %w", err)
	}
	header := http.Header{}
	header.Set("Content-Type", "application/json")
	header.Set(standardwebhooks.HeaderWebhookID, id)
	header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	return message{url: p.knobs.CallbackURL, header: header, body: body}, nil
}

// send makes one attempt; anything but a 2xx is an error.
func (c *caller) send(ctx context.Context, m message) error {
	ctx, cancel := context.WithTimeout(ctx, callbackTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, m.url, bytes.NewReader(m.body))
	if err != nil {
		return fmt.Errorf("build callback: %w", err)
	}
	r.Header = m.header.Clone()
	answer, err := c.transport.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("send callback: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxBodyBytes)) // the connection is used again
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("callback answered %s", answer.Status)
	}
	return nil
}

func (s *Server) logCallback(ctx context.Context, key string, status PayoutStatus, err error) {
	if s.log == nil {
		return
	}
	attrs := []slog.Attr{slog.String("reference", key), slog.String("status", string(status))}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	s.log.LogAttrs(ctx, slog.LevelDebug, "callback", attrs...)
}

// callbackProblems are those of the knobs that say whom to call back, and how.
func (k Knobs) callbackProblems() []error {
	var problems []error
	if k.CallbackDuplicates < 0 || k.CallbackDuplicates > maxCallbackDuplicates {
		problems = append(problems, fmt.Errorf(
			"callback_duplicates %d is not between 0 and %d", k.CallbackDuplicates, maxCallbackDuplicates))
	}
	if k.CallbackURL == "" {
		if k.CallbackRate > 0 {
			problems = append(problems, errors.New("callback_rate needs a callback_url"))
		}
		return problems
	}
	u, err := url.Parse(k.CallbackURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		problems = append(problems, fmt.Errorf(
			"callback_url %q is not an http(s) URL with a host", k.CallbackURL))
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(k.CallbackSecret, secretPrefix))
	if err != nil || len(key) < minSecretBytes {
		problems = append(problems, fmt.Errorf(
			"callback_secret has to be %d bytes or more in base64", minSecretBytes))
	}
	return problems
}
