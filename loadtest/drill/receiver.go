package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	// receiverMaxBytes bounds what a receiver reads of a message.
	receiverMaxBytes = 256 << 10
	// receiverHangs is how long a receiver that hangs keeps a call.
	receiverHangs = time.Minute
)

// receiver is a tenant's webhook endpoint: a program that checks signatures and notes what comes.
type receiver struct {
	*arrivals

	endpoint uuid.UUID
	verifier *standardwebhooks.Webhook
	server   *http.Server
	now      func() time.Time
	// hangs says that nothing is answered. failing is how many of a hundred calls are answered by a 500.
	hangs   atomic.Bool
	failing atomic.Int64
	calls   atomic.Int64
	ending  chan struct{}
}

// receives starts a receiver and makes it an endpoint of the caller's tenant.
func (s *stage) receives(ctx context.Context, t *traffic, name string) *receiver {
	r := &receiver{arrivals: newArrivals(name), ending: make(chan struct{})}
	s.do(func() error {
		skew := s.referee.Skew
		r.now = func() time.Time { return s.run.o.Now().Add(skew) }
		var listen net.ListenConfig
		socket, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("receiver: %w", err)
		}
		r.server = &http.Server{Handler: r, ReadHeaderTimeout: receiverHangs}
		s.receivers = append(s.receivers, r)
		go func() { _ = r.server.Serve(socket) }() // it ends with the stage
		return r.register(ctx, t, "http://"+socket.Addr().String()+"/hook")
	})
	return r
}

// register tells the API of the receiver, and gets its secret.
func (r *receiver) register(ctx context.Context, t *traffic, url string) error {
	a, err := t.post(ctx, "/v1/webhook-endpoints", "hook", map[string]string{"url": url})
	if err == nil && a.status != http.StatusCreated {
		err = fmt.Errorf("status %d %s", a.status, a.code)
	}
	if err != nil {
		return fmt.Errorf("make webhook endpoint: %w", err)
	}
	r.endpoint = a.id
	a, err = t.do(ctx, request{
		http.MethodGet, t.base + "/v1/webhook-endpoints/" + a.id.String() + "/secret", t.tenant.Key, "", nil,
	})
	if err != nil {
		return fmt.Errorf("get secret of webhook endpoint: %w", err)
	}
	r.verifier, err = standardwebhooks.NewWebhook(a.current)
	return err
}

// ServeHTTP takes a message.
func (r *receiver) ServeHTTP(w http.ResponseWriter, in *http.Request) {
	r.calls.Add(1)
	body, err := io.ReadAll(io.LimitReader(in.Body, receiverMaxBytes))
	switch {
	case err != nil:
		w.WriteHeader(http.StatusBadRequest)
		return
	case r.hangs.Load():
		timer := time.NewTimer(receiverHangs)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-in.Context().Done():
		case <-r.ending:
		}
		return
	case rand.Int64N(100) < r.failing.Load():
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	if err := r.verifier.Verify(body, in.Header); err != nil {
		r.refuse("signature: " + err.Error())
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	r.take(body, r.now())
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) close() error {
	close(r.ending)
	err := r.server.Close()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
