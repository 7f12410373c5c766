package containers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/testcontainers/testcontainers-go"
)

// requestMax bounds one request.
const requestMax = 5 * time.Second

// slowRisk keeps work in workers' hands, so that a fault finds some there.
const slowRisk = `{"latency":{"distribution":"fixed","p50_ms":150}}`

var errStatus = errors.New("unexpected status")

// url is where a port of a container is published. It moves when the container is started again.
func (w *world) url(ctx context.Context, c testcontainers.Container, port string) (string, error) {
	return c.PortEndpoint(ctx, port, "http")
}

// call sends a request and decodes the answer, if its status is the one to expect.
func (w *world) call(
	c testcontainers.Container, port string, r *http.Request, status int, into any,
) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), requestMax)
	defer cancel()
	base, err := w.url(ctx, c, port)
	if err != nil {
		return fmt.Errorf("find container: %w", err)
	}
	sent := r.Clone(ctx)
	if sent.URL, err = sent.URL.Parse(base + r.URL.RequestURI()); err != nil {
		return fmt.Errorf("read url: %w", err)
	}
	reply, err := new(http.Client).Do(sent)
	if err != nil {
		return fmt.Errorf("send request: %w", err)
	}
	defer func() { _ = reply.Body.Close() }()
	if reply.StatusCode != status {
		return fmt.Errorf("%s: %w", reply.Status, errStatus)
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(reply.Body).Decode(into); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}

func (w *world) request(method, path, body string) *http.Request {
	r, err := http.NewRequestWithContext(w.t.Context(), method, path, strings.NewReader(body))
	if err != nil {
		panic(err) // a path of ours
	}
	r.Header.Set("Authorization", "Bearer "+w.demo.Key)
	r.Header.Set("Content-Type", "application/json")
	return r
}

// makeRiskSlow makes the risk service take its time.
func (w *world) makeRiskSlow() {
	w.t.Helper()
	require.NoError(w.t, w.call(w.simdep, simdepPort, w.request(http.MethodPut, "/knobs", slowRisk),
		http.StatusOK, nil))
}

// ready waits until a process says that it is.
func (w *world) ready(c testcontainers.Container) {
	w.t.Helper()
	w.until(readyMax, func() error {
		return w.call(c, adminPort, w.request(http.MethodGet, "/readyz", ""), http.StatusOK, nil)
	})
}

// until looks at a condition again and again, until it has nothing against it.
func (w *world) until(most time.Duration, condition func() error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), most)
	defer cancel()
	again := time.NewTicker(look)
	defer again.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			require.NoError(w.t, err, "after %v", most)
		}
	}
}

// accepts sends some transfers until all of them are accepted, and returns their ids.
func (w *world) accepts() []string {
	w.t.Helper()
	return <-w.acceptsMeanwhile()
}

// acceptsMeanwhile is accepts, while the test goes on.
func (w *world) acceptsMeanwhile() <-chan []string {
	w.t.Helper()
	keys := make([]string, some)
	for i := range keys {
		w.sent++
		keys[i] = fmt.Sprintf("transfer-%d", w.sent)
	}
	done := make(chan []string, 1)
	go func() {
		var ids []string
		for _, key := range keys {
			id, err := w.accept(key)
			if err != nil {
				w.t.Errorf("transfer %s is not accepted: %v", key, err)
				break
			}
			ids = append(ids, id)
		}
		done <- ids
	}()
	return done
}

// accept posts one transfer under its key, again and again until there is an answer: the key makes that safe.
func (w *world) accept(key string) (string, error) {
	body := fmt.Sprintf(`{"from_account":%q,"to_account":%q,"amount":{"value":125,"currency":"EUR"}}`,
		w.demo.Accounts[0], w.demo.Accounts[1])
	ctx, cancel := context.WithTimeout(w.t.Context(), settleMax)
	defer cancel()
	again := time.NewTicker(look)
	defer again.Stop()
	for {
		r := w.request(http.MethodPost, "/v1/transfers", body)
		r.Header.Set("Idempotency-Key", key)
		var accepted struct {
			ID string `json:"id"`
		}
		err := w.call(w.api, apiPort, r, http.StatusAccepted, &accepted)
		if err == nil {
			return accepted.ID, nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return "", err
		}
	}
}

// settles waits until all of these transfers are settled.
func (w *world) settles(lists ...[]string) {
	w.t.Helper()
	w.reach(slices.Concat(lists...), settleMax, "settled")
}

// ends waits until all of these transfers have ended: settled, or expired since no answer came in time.
func (w *world) ends(lists ...[]string) {
	w.t.Helper()
	w.reach(slices.Concat(lists...), promiseMax, "settled", "expired")
}

// reach waits until all of these transfers are in one of the states.
func (w *world) reach(ids []string, most time.Duration, states ...string) {
	w.t.Helper()
	require.NotEmpty(w.t, ids)
	w.until(most, func() error {
		for len(ids) > 0 {
			var seen struct {
				Status string `json:"status"`
			}
			at := w.request(http.MethodGet, "/v1/transfers/"+ids[0], "")
			if err := w.call(w.api, apiPort, at, http.StatusOK, &seen); err != nil {
				return err
			}
			if !slices.Contains(states, seen.Status) {
				return fmt.Errorf("%d transfers, the first one %s: %w", len(ids), seen.Status, errStatus)
			}
			ids = ids[1:]
		}
		return nil
	})
}
