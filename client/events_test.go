package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/client"
	"example.com/holdfast/internal/problem"
)

var shop = uuid.MustParse("018f2b6e-0000-7000-8000-0000000000b7")

func pageOf(next string, types ...string) http.HandlerFunc {
	events := make([]string, len(types))
	for i, name := range types {
		events[i] = fmt.Sprintf(`{"id":"%d","type":%q,"data":{"to":"settled"}}`, i, name)
	}
	return text(200, `{"events":[`+strings.Join(events, ",")+`],"next_cursor":"`+next+`"}`)
}

func TestEveryCallAboutEventsIsAsTheContractSays(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(exampleServer())
	t.Cleanup(server.Close)
	c, err := client.New(server.URL, "hf_key")
	require.NoError(t, err)
	ctx := t.Context()
	for _, params := range []*client.ListEventsParams{nil, {
		Cursor: new("x"), Limit: new(int32(7)), Type: new("transfer.*"), Wait: new(int32(3)),
		From: new(client.ListEventsParamsFromNow),
	}} {
		page, err := c.ListEvents(ctx, params)
		require.NoError(t, err)
		require.Equal(t, "transfer.settled", page.Events[0].Type)
		require.Equal(t, shop.Version(), uuid.MustParse(page.Events[0].Subject).Version())
		require.Contains(t, string(page.Events[0].Data), `"to":"settled"`)
		require.NotEmpty(t, page.NextCursor)
	}
	types, err := c.EventTypes(ctx)
	require.NoError(t, err)
	require.NotEmpty(t, types)
	schema, err := c.EventTypeSchema(ctx, types[0].Type)
	require.NoError(t, err)
	require.Contains(t, string(schema), "2020-12")
}

func TestAFollowerGoesOnFromEachPage(t *testing.T) {
	t.Parallel()
	b := setup(t, pageOf("a", "transfer.settled", "transfer.failed"), pageOf("a"), pageOf("b"),
		pageOf("c", "order.pending"))
	enough := errors.New("enough")
	var seen []string
	params := client.ListEventsParams{
		From: new(client.ListEventsParamsFromNow), Type: new("transfer.*"), Limit: new(int32(2)),
	}
	err := b.FollowEvents(t.Context(), &params, func(_ context.Context, page client.CloudEventPage) error {
		seen = append(seen, fmt.Sprint(page.NextCursor, len(page.Events)))
		if page.NextCursor == "c" {
			return enough
		}
		return nil
	})
	require.ErrorIs(t, err, enough)
	require.Equal(t, []string{"a2", "b0", "c1"}, seen, "where nothing is new there is nothing to handle")
	require.Equal(t, []string{
		"/v1/events?limit=2&type=transfer.%2A&wait=30&from=now",
		"/v1/events?cursor=a&limit=2&type=transfer.%2A&wait=30",
		"/v1/events?cursor=a&limit=2&type=transfer.%2A&wait=30",
		"/v1/events?cursor=b&limit=2&type=transfer.%2A&wait=30",
	}, b.urls())
	require.Len(t, *b.slept, 2, "it never asks again without a pause where there was nothing")
	require.Nil(t, params.Cursor, "what is the caller's stays as it is")
}

func TestAFollowerEndsWithItsContextOrARefusal(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	b := setup(t, pageOf("a"), func(http.ResponseWriter, *http.Request) { cancel(); hangUp(nil, nil) })
	nothing := func(context.Context, client.CloudEventPage) error { return nil }
	require.ErrorIs(t, b.FollowEvents(ctx, nil, nothing), context.Canceled)

	b = setup(t, refuse(problem.CursorExpired, ""))
	err := b.FollowEvents(t.Context(), &client.ListEventsParams{Cursor: new("old")}, nothing)
	var p *client.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, "cursor_expired", p.Code)
	require.Len(t, b.seen, 1)
}

func TestEveryCallAboutWebhooksIsAsTheContractSays(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(exampleServer())
	t.Cleanup(server.Close)
	c, err := client.New(server.URL, "hf_key")
	require.NoError(t, err)
	ctx := t.Context()
	fresh := client.NewWebhookEndpoint{URL: "https://shop.example.com/hooks", Types: []string{"order.*"}}

	made, err := c.CreateWebhookEndpoint(ctx, fresh, client.WithKey("mine"))
	require.NoError(t, err)
	require.Equal(t, shop, made.ID)
	bare, err := c.CreateWebhookEndpoint(ctx, client.NewWebhookEndpoint{URL: "https://a.example.com"})
	require.NoError(t, err)
	require.Equal(t, client.WebhookStatusActive, bare.Status)
	type endpoint = client.WebhookEndpoint
	for what, call := range map[string]func() (endpoint, error){
		"read":    func() (endpoint, error) { return c.WebhookEndpoint(ctx, shop) },
		"replace": func() (endpoint, error) { return c.ReplaceWebhookEndpoint(ctx, shop, fresh) },
		"pause":   func() (endpoint, error) { return c.PauseWebhookEndpoint(ctx, shop) },
		"resume":  func() (endpoint, error) { return c.ResumeWebhookEndpoint(ctx, shop) },
		"ping":    func() (endpoint, error) { return c.PingWebhookEndpoint(ctx, shop) },
		"rotate":  func() (endpoint, error) { return c.RotateWebhookSecret(ctx, shop, time.Hour) },
	} {
		e, err := call()
		require.NoError(t, err, what)
		require.Equal(t, shop, e.ID, what)
		require.Equal(t, what == "pause", e.Status == client.WebhookStatusPaused, what)
		require.Equal(t, what == "rotate", e.SecretVersion == 2, what)
	}
	list, err := c.ListWebhookEndpoints(ctx, &client.ListWebhookEndpointsParams{Limit: new(int32(1))})
	require.NoError(t, err)
	require.Len(t, list.WebhookEndpoints, 1)
	secret, err := c.WebhookSecret(ctx, shop)
	require.NoError(t, err)
	require.NotEqual(t, secret.Current, secret.Previous)
	for _, which := range []client.WebhookResend{
		{EventID: "x-1"}, {From: time.Now().Add(-time.Hour), To: time.Now()}, //nolint:forbidigo // any time
	} {
		n, err := c.ResendWebhookEvents(ctx, shop, which)
		require.NoError(t, err)
		require.Equal(t, int64(12), n)
	}
	attempts, err := c.WebhookAttempts(ctx, shop, nil)
	require.NoError(t, err)
	require.Equal(t, client.WebhookAttemptKindEvent, attempts.Attempts[0].Kind)
	dead, err := c.WebhookDeadLetters(ctx, shop, nil)
	require.NoError(t, err)
	require.Equal(t, 2, dead.DeadLetters[0].Behind)
	n, err := c.RedriveWebhookDeadLetters(ctx, shop)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NoError(t, c.DeleteWebhookEndpoint(ctx, shop))
}

func TestARemovalIsTriedAgainWithTheSameKey(t *testing.T) {
	t.Parallel()
	b := setup(t, hangUp, text(http.StatusNoContent, ""))
	require.NoError(t, b.DeleteWebhookEndpoint(t.Context(), shop))
	require.NotEmpty(t, b.seen[0].key)
	require.Equal(t, b.seen[0].key, b.seen[1].key)
	b = setup(t, refuse(problem.NotFound, ""))
	require.ErrorContains(t, b.DeleteWebhookEndpoint(t.Context(), shop), "not_found")
}
