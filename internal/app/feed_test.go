package app_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/config"
)

// page is what GET /v1/events answers.
type page struct {
	Events []struct {
		Type    string `json:"type"`
		Subject string `json:"subject"`
		Data    struct {
			Transfer struct {
				FromAccount string `json:"from_account"`
			} `json:"transfer"`
		} `json:"data"`
	} `json:"events"`
	NextCursor string `json:"next_cursor"`
}

// nextField is the value of the next line of a stream that begins so.
func nextField(lines *bufio.Scanner, name string) string {
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name); ok {
			return value
		}
	}
	return ""
}

func TestWhatHappensIsFollowedThroughTheWholeSystem(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	body := fmt.Sprintf(`{"from_account":%q,"to_account":%q,"amount":{"value":125,"currency":"EUR"}}`,
		s.demo.Accounts[0], s.demo.Accounts[1])
	status, text := s.call(t, http.MethodPost, "/v1/transfers", body, "Idempotency-Key", "one")
	require.Equal(t, http.StatusAccepted, status, text)
	var made struct {
		ID string `json:"id"`
	}
	require.NoError(t, json.Unmarshal([]byte(text), &made))

	var types []string
	path := "/v1/events?wait=10&type=transfer.*"
	for len(types) < 3 {
		status, text := s.call(t, http.MethodGet, path, "")
		require.Equal(t, http.StatusOK, status, text)
		var p page
		require.NoError(t, json.Unmarshal([]byte(text), &p))
		require.NotEmpty(t, p.Events, "it waits until there is something")
		for _, e := range p.Events {
			require.Equal(t, made.ID, e.Subject)
			require.Equal(t, s.demo.Accounts[0].String(), e.Data.Transfer.FromAccount)
			types = append(types, e.Type)
		}
		path = "/v1/events?wait=10&type=transfer.*&cursor=" + p.NextCursor
	}
	require.Equal(t, []string{"transfer.accepted", "transfer.approved", "transfer.settled"}, types)

	r := s.request(t, http.MethodGet, "/v1/events", "", "Accept", "text/event-stream")
	reply, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer func() { _ = reply.Body.Close() }()
	lines := bufio.NewScanner(reply.Body)
	for _, want := range types {
		require.Equal(t, want, nextField(lines, "event: "))
	}
}

func TestWhoFollowsEventsIsLetGoWhenTheAPIEnds(t *testing.T) {
	t.Parallel()
	h := newHalves(t, func(*config.Config) {}) // and no worker, so that nothing happens
	api := run(t, config.Drain{Max: 10 * time.Second}, h.api)
	poll := h.request(t, http.MethodGet, "/v1/events?wait=30", "")
	answered := make(chan string, 1)
	go func() {
		reply, err := http.DefaultTransport.RoundTrip(poll)
		if err != nil {
			answered <- err.Error()
			return
		}
		text, err := io.ReadAll(reply.Body)
		answered <- fmt.Sprint(string(text), errors.Join(err, reply.Body.Close()))
	}()
	eventually(t, "the client waits", func() bool {
		return h.count(t, `SELECT count(*) FROM pg_stat_activity
		                    WHERE datname = current_database() AND application_name = 'holdfast-events'
		                      AND query LIKE '%name: SystemReadHead %'`) > 0
	})
	r := h.request(t, http.MethodGet, "/v1/events", "", "Accept", "text/event-stream")
	stream, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer func() { require.NoError(t, stream.Body.Close()) }()
	require.Equal(t, http.StatusOK, stream.StatusCode)
	api.end()
	api.requireEnds(t)
	text, err := io.ReadAll(stream.Body)
	require.NoError(t, err, "the stream ends as a whole answer does")
	require.Contains(t, string(text), "id: ")
	require.Contains(t, <-answered, `"events":[]`)
}
