package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/client"
	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/httpapi"
	"example.com/holdfast/internal/order/ordertest"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/tenancy"
	"example.com/holdfast/internal/webhook"
)

// realLog is the log as a process reads it.
type realLog struct {
	*outbox.Doorbells

	pool *pgxpool.Pool
}

func (l realLog) Read(
	ctx context.Context, tenantID uuid.UUID, after int64, limit int,
) ([]outbox.Logged, error) {
	return outbox.ReadLog(ctx, l.pool, tenantID, after, limit)
}

func (l realLog) Extent(ctx context.Context) (outbox.Extent, error) {
	return outbox.ReadExtent(ctx, l.pool)
}

// newsroom is a market whose events can be followed: by a client of its tenant and by one of another.
type newsroom struct {
	market

	other *client.Client
	url   string
	key   string
}

func setupNewsroom(t *testing.T) newsroom {
	t.Helper()
	ctx := t.Context()
	n := newsroom{market: market{Bundle: ordertest.New(t)}}
	n.StartWorker(t, "worker")
	now := time.Now //nolint:forbidigo // the test is the caller
	log := slog.New(slog.DiscardHandler)
	relay, bell := &outbox.Relay{Pool: n.Pool, Log: log}, &outbox.Bell{Pool: n.Pool, Log: log}
	bells := &outbox.Doorbells{Bell: bell, Pool: n.Pool, Log: log}
	for _, s := range []interface {
		Start(ctx context.Context)
		Stop()
	}{relay, bell, bells} {
		s.Start(ctx)
		t.Cleanup(s.Stop)
	}
	encoder := &cloudevent.Encoder{Describe: map[string]cloudevent.Describer{
		"transfer": n.Transfers.Facts, "order": n.Orders.Facts,
	}}
	keys := tenancy.NewService(n.Pool, now)
	server := httptest.NewServer(httpapi.New(httpapi.Config{
		Keys: keys, Transfers: n.Transfers, Accounts: n.Ledger, Orders: n.Orders, Inventory: n.Inventory,
		Feed: realLog{bells, n.Pool}, Encode: encoder.Encode,
		Webhooks: webhook.NewService(n.Pool, webhook.Options{Key: []byte("0123456789abcdef"), Now: now}),
		Now:      now, Log: log,
	}))
	t.Cleanup(server.Close)
	n.url = server.URL
	stranger, err := keys.CreateTenant(ctx, "stranger")
	require.NoError(t, err)
	for tenant, c := range map[uuid.UUID]**client.Client{n.Tenant: &n.client, stranger: &n.other} {
		key, err := keys.CreateKey(ctx, tenant, "test", tenancy.Scopes(), tenancy.Standard)
		require.NoError(t, err)
		*c, err = client.New(server.URL, key)
		require.NoError(t, err)
		if tenant == n.Tenant {
			n.key = key
		}
	}
	return n
}

// follow collects events until an order is confirmed.
func (n newsroom) follow(t *testing.T, params *client.ListEventsParams) ([]client.CloudEvent, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), awaitMax)
	defer cancel()
	var seen []client.CloudEvent
	var cursor string
	const confirmed = "order.confirmed"
	enough := errors.New("enough")
	err := n.client.FollowEvents(ctx, params, func(_ context.Context, page client.CloudEventPage) error {
		seen, cursor = append(seen, page.Events...), page.NextCursor
		if slices.ContainsFunc(page.Events, func(e client.CloudEvent) bool { return e.Type == confirmed }) {
			return enough
		}
		return nil
	})
	require.ErrorIs(t, err, enough)
	return seen, cursor
}

func typesOf(events []client.CloudEvent, subject uuid.UUID) []string {
	var types []string
	for _, e := range events {
		if e.Subject == subject.String() {
			types = append(types, e.Type)
		}
	}
	return types
}

func TestAFollowerSeesTheLivesOfOrdersAndTheirPayments(t *testing.T) {
	t.Parallel()
	n := setupNewsroom(t)
	ended := n.buy(t, 4, n.Slot)
	seen, cursor := n.follow(t, nil)
	require.Equal(t, []string{"order.pending", "order.reserved", "order.confirmed"}, typesOf(seen, ended.ID))
	require.Equal(t, []string{"transfer.accepted", "transfer.approved", "transfer.settled"},
		typesOf(seen, ended.PaymentTransfer))
	for _, e := range seen {
		require.Equal(t, "/tenants/"+n.Tenant.String(), e.Source)
		var data map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(e.Data, &data))
		require.True(t, len(data["order"]) > 0 || len(data["transfer"]) > 0, "it tells what it is about")
	}
	// What comes while one waits comes by the bell, and filtered.
	placed, err := n.client.CreateOrder(t.Context(), client.NewOrder{
		CustomerAccount: n.From, MerchantAccount: n.To, Location: ordertest.Location,
		Lines: []client.NewOrderLine{{SKU: n.SKU, Quantity: 1}},
	})
	require.NoError(t, err)
	more, _ := n.follow(t, &client.ListEventsParams{Cursor: &cursor, Type: new("order.*")})
	require.Equal(t, []string{"order.pending", "order.reserved", "order.confirmed"}, typesOf(more, placed.ID))
	require.Len(t, more, 3)

	page, err := n.other.ListEvents(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, page.Events, "another tenant sees nothing")
	page, err = n.other.ListEvents(t.Context(), &client.ListEventsParams{Cursor: &cursor})
	require.NoError(t, err)
	require.Empty(t, page.Events, "also not by the cursor of this one")
}

func TestAStreamOfTheRealLogIsTheSameAsItsPages(t *testing.T) {
	t.Parallel()
	n := setupNewsroom(t)
	n.buy(t, 4, n.Slot)
	seen, _ := n.follow(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), awaitMax)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url+"/v1/events", http.NoBody)
	require.NoError(t, err)
	r.Header = http.Header{"Authorization": {"Bearer " + n.key}, "Accept": {"text/event-stream"}}
	response, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer func() { require.NoError(t, response.Body.Close()) }()
	lines := bufio.NewScanner(response.Body)
	for _, want := range seen {
		var got client.CloudEvent
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				require.NoError(t, json.Unmarshal([]byte(data), &got))
				break
			}
		}
		require.Equal(t, want, got)
	}
}

func TestACursorFromBeforeWhatTheLogKeepsIsExpired(t *testing.T) {
	t.Parallel()
	n := setupNewsroom(t)
	now := client.ListEventsParams{From: new(client.ListEventsParamsFromNow)}
	begin, err := n.client.ListEvents(t.Context(), &now)
	require.NoError(t, err)
	n.buy(t, 4, n.Slot)
	_, cursor := n.follow(t, nil)
	_, err = n.Pool.Exec(t.Context(), "UPDATE event_log SET at = at - interval '31 days'")
	require.NoError(t, err)
	gone, err := outbox.Forget(t.Context(), n.Pool)
	require.NoError(t, err)
	require.Positive(t, gone)
	_, err = n.client.ListEvents(t.Context(), &client.ListEventsParams{Cursor: &begin.NextCursor})
	requireProblem(t, err, problem.CursorExpired)
	page, err := n.client.ListEvents(t.Context(), &client.ListEventsParams{Cursor: &cursor})
	require.NoError(t, err)
	require.Empty(t, page.Events)
	_, err = n.client.ListEvents(t.Context(), nil)
	require.NoError(t, err)
}

func TestAnEndpointIsKeptThroughTheAPI(t *testing.T) {
	t.Parallel()
	n := setupNewsroom(t)
	ctx := t.Context()
	fresh := client.NewWebhookEndpoint{URL: "https://shop.example.com/hooks", Types: []string{"order.*"}}
	made, err := n.client.CreateWebhookEndpoint(ctx, fresh, client.WithKey("one"))
	require.NoError(t, err)
	again, err := n.client.CreateWebhookEndpoint(ctx, fresh, client.WithKey("one"))
	require.NoError(t, err)
	require.Equal(t, made, again)
	secret, err := n.client.WebhookSecret(ctx, made.ID)
	require.NoError(t, err)
	require.Contains(t, secret.Current, "whsec_")
	rotated, err := n.client.RotateWebhookSecret(ctx, made.ID, time.Hour)
	require.NoError(t, err)
	require.Equal(t, int32(2), rotated.SecretVersion)
	both, err := n.client.WebhookSecret(ctx, made.ID)
	require.NoError(t, err)
	require.Equal(t, secret.Current, both.Previous)
	require.NotEqual(t, secret.Current, both.Current)

	paused, err := n.client.PauseWebhookEndpoint(ctx, made.ID)
	require.NoError(t, err)
	require.Equal(t, client.WebhookStatusPaused, paused.Status)
	_, err = n.client.PingWebhookEndpoint(ctx, made.ID)
	requireProblem(t, err, problem.IllegalTransition)
	resumed, err := n.client.ResumeWebhookEndpoint(ctx, made.ID)
	require.NoError(t, err)
	require.Equal(t, client.WebhookStatusActive, resumed.Status)
	_, err = n.client.PingWebhookEndpoint(ctx, made.ID)
	require.NoError(t, err)
	changed, err := n.client.ReplaceWebhookEndpoint(ctx, made.ID, client.NewWebhookEndpoint{URL: fresh.URL})
	require.NoError(t, err)
	require.Empty(t, changed.Types)
	none, err := n.client.RedriveWebhookDeadLetters(ctx, made.ID)
	require.NoError(t, err)
	require.Zero(t, none)

	_, err = n.other.WebhookSecret(ctx, made.ID)
	requireProblem(t, err, problem.NotFound)
	requireProblem(t, n.other.DeleteWebhookEndpoint(ctx, made.ID), problem.NotFound)
	require.NoError(t, n.client.DeleteWebhookEndpoint(ctx, made.ID, client.WithKey("two")))
	require.NoError(t, n.client.DeleteWebhookEndpoint(ctx, made.ID, client.WithKey("two")), "it is replayed")
	_, err = n.client.WebhookEndpoint(ctx, made.ID)
	requireProblem(t, err, problem.NotFound)
	list, err := n.client.ListWebhookEndpoints(ctx, nil)
	require.NoError(t, err)
	require.Empty(t, list.WebhookEndpoints)
	var leaked int
	require.NoError(t, n.Pool.QueryRow(ctx,
		"SELECT count(*) FROM idempotency_keys WHERE position('whsec_'::bytea IN body) > 0").Scan(&leaked))
	require.Zero(t, leaked, "no stored answer has a secret")
}
