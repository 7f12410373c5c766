package httpapi

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/telemetry"
	"example.com/holdfast/internal/tenancy"
)

// shop is the public listener over the real order and inventory services and a database of their own,
// with two tenants. The first has a buyer with 1,000,000 minor units, a seller, ten units of an SKU at
// main, and a slot there for one order. No worker runs: what is placed stays pending.
type shop struct {
	bundle

	key, other    string
	buyer, seller uuid.UUID
	sku, slot     uuid.UUID
}

func setupShop(t *testing.T) shop {
	t.Helper()
	ctx, pool, now := t.Context(), pgtest.New(t), time.Now //nolint:forbidigo // the test is the caller
	log, metrics := slog.New(slog.DiscardHandler), telemetry.New()
	keys, accounts := tenancy.NewService(pool, now), ledger.NewService(pool)
	service := order.NewService(order.Config{
		Pool: pool, Metrics: metrics, Log: log, Instance: "test", Now: now,
	})
	service.Start(ctx)
	t.Cleanup(service.Stop)
	s := shop{bundle: bundle{log: &bytes.Buffer{}, spec: publicContract(), handler: New(Config{
		Keys: keys, Accounts: accounts, Orders: service, Inventory: inventory.NewService(pool),
		Metrics: metrics, Now: now, Log: log,
	})}}
	tenant, err := keys.CreateTenant(ctx, "acme")
	require.NoError(t, err)
	s.key, err = keys.CreateKey(ctx, tenant, "test", tenancy.Scopes(), tenancy.Standard)
	require.NoError(t, err)
	stranger, err := keys.CreateTenant(ctx, "globex")
	require.NoError(t, err)
	s.other, err = keys.CreateKey(ctx, stranger, "test", tenancy.Scopes(), tenancy.Standard)
	require.NoError(t, err)
	open := func(from uuid.UUID, kind string, amount int64) uuid.UUID {
		n := ledger.NewAccount{Name: kind, Kind: kind, Currency: "EUR"}
		a, err := accounts.Seed(ctx, tenant, from, n, amount)
		require.NoError(t, err)
		return a.ID
	}
	outside := open(uuid.Nil, ledger.KindExternal, 0)
	s.buyer, s.seller = open(outside, ledger.KindUser, 1_000_000), open(outside, ledger.KindUser, 0)
	s.sku = s.makeSKU(t, "tea-500", 1250, "EUR")
	require.Equal(t, http.StatusOK, s.post(t, s.stockPath(), strings.Replace(goodStock, "40", "10", 1)).Code)
	s.slot = s.makeSlot(t, "main", 1)
	return s
}

func (s shop) post(t *testing.T, path, body string) answer {
	t.Helper()
	return s.do(t, exchange{method: post, path: path, key: s.key, body: body})
}

func (s shop) read(t *testing.T, path string) answer {
	t.Helper()
	a := s.do(t, exchange{method: get, path: path, key: s.key})
	require.Equal(t, http.StatusOK, a.Code, a.text)
	return a
}

func (s shop) stockPath() string { return skus + "/" + s.sku.String() + "/stock" }

func (s shop) makeSKU(t *testing.T, code string, price int64, currency string) uuid.UUID {
	t.Helper()
	a := s.post(t, skus, fmt.Sprintf(`{"code":%q,"name":"x","price":{"value":%d,"currency":%q}}`,
		code, price, currency))
	require.Equal(t, http.StatusCreated, a.Code, a.text)
	return decoded[publicapi.SKU](t, a).ID
}

func (s shop) makeSlot(t *testing.T, location string, capacity int) uuid.UUID {
	t.Helper()
	from := time.Now().Add(24 * time.Hour) //nolint:forbidigo // a slot of the real future
	a := s.post(t, slots, fmt.Sprintf(`{"location":%q,"starts_at":%q,"ends_at":%q,"capacity":%d}`,
		location, from.Format(time.RFC3339Nano), from.Add(time.Hour).Format(time.RFC3339Nano), capacity))
	require.Equal(t, http.StatusCreated, a.Code, a.text)
	return decoded[publicapi.Slot](t, a).ID
}

// order is goodOrder in this shop.
func (s shop) order() string {
	return strings.NewReplacer(cash.String(), s.buyer.String(), bank.String(), s.seller.String(),
		tea.String(), s.sku.String(), morning.String(), s.slot.String(),
		`"client_reference":"basket-7",`, "").Replace(goodOrder)
}

// placing places an order under the key "one".
func (s shop) placing(body string) exchange {
	return exchange{method: post, path: orders, key: s.key, name: "one", body: body}
}

// requireUntouched says that nothing was placed, reserved or booked.
func (s shop) requireUntouched(t *testing.T) {
	t.Helper()
	require.JSONEq(t, `{"orders":[]}`, s.read(t, orders).text)
	levels := decoded[publicapi.StockLevels](t, s.read(t, s.stockPath())).Stock
	whole := publicapi.Stock{SKU: s.sku, Location: "main", OnHand: 10, Available: 10, Version: 1}
	require.Equal(t, []publicapi.Stock{whole}, levels)
	for _, d := range decoded[publicapi.SlotPage](t, s.read(t, slots)).Slots {
		require.Zero(t, d.Booked)
	}
}

func TestEveryKindOfBadOrderIsRefusedByTheRealServices(t *testing.T) {
	t.Parallel()
	s := setupShop(t)
	ours := strings.NewReplacer(cash.String(), s.buyer.String(), bank.String(), s.seller.String(),
		tea.String(), s.sku.String(), morning.String(), s.slot.String())
	for _, tt := range badOrders() {
		e := s.placing(ours.Replace(tt.body))
		p := s.requireProblem(t, e, tt.code)
		require.Equal(t, tt.pointer, p.Errors[0].Pointer, tt.name)
	}
	s.requireUntouched(t)
	fine := s.do(t, s.placing(s.order()))
	require.Equal(t, http.StatusAccepted, fine.Code, "the key was not used up")
}

func TestAnOrderThatCannotBeIsRefusedForEverUnderItsKey(t *testing.T) {
	t.Parallel()
	s := setupShop(t)
	elsewhere, shut := s.makeSlot(t, "elsewhere", 1), s.makeSlot(t, "main", 1)
	closed := s.post(t, slots+"/"+shut.String()+"/close", "")
	require.Equal(t, http.StatusOK, closed.Code, closed.text)
	dear := s.makeSKU(t, "dear", 1_000_000_000_000_000, "EUR")
	dollars := s.makeSKU(t, "dollars", 5, "USD")
	line := `{"sku":"` + s.sku.String() + `","quantity":2}`
	with := func(sku uuid.UUID, quantity string) string {
		return line + `,{"sku":"` + sku.String() + `","quantity":` + quantity + `}`
	}
	for _, tt := range []struct {
		name, from, to string
		code           problem.Code
	}{
		{"an unknown SKU", s.sku.String(), absent.String(), problem.SKUNotFound},
		{"a line of an unknown SKU", line, with(absent, "1"), problem.SKUNotFound},
		{"an unknown slot", s.slot.String(), absent.String(), problem.SlotNotFound},
		{"a closed slot", s.slot.String(), shut.String(), problem.SlotClosed},
		{"a slot of another location", s.slot.String(), elsewhere.String(), problem.SlotElsewhere},
		{"an unknown buyer", s.buyer.String(), absent.String(), problem.AccountNotFound},
		{"an unknown seller", s.seller.String(), absent.String(), problem.AccountNotFound},
		{"two currencies", line, with(dollars, "1"), problem.CurrencyMismatch},
		{"accounts of another currency", s.sku.String(), dollars.String(), problem.CurrencyMismatch},
		{"a line that overflows 64 bits", line, with(dear, "1000000000"), problem.TotalOverflow},
		{"a sum above the largest amount", line, with(dear, "1"), problem.TotalOverflow},
	} {
		body := strings.Replace(s.order(), tt.from, tt.to, 1)
		require.NotEqual(t, s.order(), body, tt.name)
		e := s.placing(body)
		e.name = strings.ReplaceAll(tt.name, " ", "-")
		first := s.do(t, e)
		require.Equal(t, string(tt.code), first.problem(t).Code, tt.name)
		again := s.do(t, e)
		require.Equal(t, first.text, again.text, tt.name)
		require.Equal(t, "true", again.Header().Get("Idempotent-Replayed"), tt.name)
	}
	s.requireUntouched(t)
}

func TestAnOrderIsAcceptedReplayedReadAndCanceled(t *testing.T) {
	t.Parallel()
	s := setupShop(t)
	line := `{"sku":"` + s.sku.String() + `","quantity":2}`
	e := s.placing(s.order())
	e.body = strings.Replace(e.body, line, line+","+line, 1)
	e.body = strings.Replace(e.body, `{"customer`, `{"client_reference":"basket-7","customer`, 1)
	first := s.do(t, e)
	require.Equal(t, http.StatusAccepted, first.Code, first.text)
	again := s.do(t, e)
	require.Equal(t, first.text, again.text)
	require.Equal(t, first.Header().Get("Location"), again.Header().Get("Location"))
	require.Equal(t, "true", again.Header().Get("Idempotent-Replayed"))
	placed := decoded[publicapi.Order](t, first)
	require.Equal(t, publicapi.OrderStatusPending, placed.Status)
	merged := publicapi.OrderLine{SKU: s.sku, Quantity: 4, UnitPrice: 1250}
	require.Equal(t, []publicapi.OrderLine{merged}, placed.Lines)
	require.Equal(t, publicapi.Amount{Value: 5000, Currency: "EUR"}, placed.Total)

	path := first.Header().Get("Location")
	require.Equal(t, placed, decoded[publicapi.Order](t, s.read(t, path)))
	for _, query := range []string{
		"", "?sku=" + s.sku.String(), "?account=" + s.seller.String(), "?status=pending",
		"?client_reference=basket-7",
	} {
		page := decoded[publicapi.OrderPage](t, s.read(t, orders+query))
		require.Equal(t, []publicapi.Order{placed}, page.Orders, query)
	}
	for _, query := range []string{"?sku=" + absent.String(), "?status=confirmed", "?client_reference=b"} {
		require.JSONEq(t, `{"orders":[]}`, s.read(t, orders+query).text)
	}
	events := decoded[publicapi.EventList](t, s.read(t, path+"/events")).Events
	require.Equal(t, "request:"+first.Header().Get("X-Request-Id"), events[0].Cause)

	e.name = "two"
	s.requireProblem(t, e, problem.ReferenceUsed)
	cancel := exchange{method: post, path: path + "/cancel", key: s.key, name: "three"}
	cancel.body = `{"reason":"twice"}`
	canceled := s.do(t, cancel)
	require.Equal(t, http.StatusOK, canceled.Code, canceled.text)
	require.Equal(t, "client", decoded[publicapi.Order](t, canceled).Reason)
	require.Equal(t, canceled.text, s.do(t, cancel).text)
	cancel.name = ""
	s.requireProblem(t, cancel, problem.IllegalTransition)
	events = decoded[publicapi.EventList](t, s.read(t, path+"/events?after=1")).Events
	require.Len(t, events, 1)
	require.Contains(t, string(events[0].Data), "twice")
}

func TestAPreviewOfOrdersReservesInTurnAndGivesAllBack(t *testing.T) {
	t.Parallel()
	s := setupShop(t)
	eight := strings.Replace(s.order(), `"quantity":2`, `"quantity":8`, 1)
	anytime := strings.Replace(s.order(), `"slot":"`+s.slot.String()+`",`, "", 1)
	much := strings.Replace(anytime, `"quantity":2`, `"quantity":1000`, 1)
	for range 2 {
		e := previewingOrders(eight, anytime, s.order(), anytime, much)
		e.key = s.key
		results := decoded[publicapi.OrderResults](t, s.do(t, e)).Results
		for i, want := range []string{"", "", "slot_full", "insufficient_stock", "insufficient_stock"} {
			require.Equal(t, want, results[i].Problem.Code, i)
		}
	}
	poor := previewingOrders(strings.NewReplacer(s.buyer.String(), s.seller.String(),
		s.seller.String(), s.buyer.String()).Replace(s.order()))
	poor.key = s.key
	results := decoded[publicapi.OrderResults](t, s.do(t, poor)).Results
	require.Equal(t, "insufficient_funds", results[0].Problem.Code)
	s.requireUntouched(t)
}

func TestStockIsChangedByEntriesAndNeverNegative(t *testing.T) {
	t.Parallel()
	s := setupShop(t)
	change := func(kind string, quantity int64) string {
		return fmt.Sprintf(`{"location":"main","kind":%q,"quantity":%d,"reason":"counted"}`, kind, quantity)
	}
	e := exchange{method: post, path: s.stockPath(), key: s.key, name: "one", body: change("adjust", -11)}
	refused := s.requireProblem(t, e, problem.InsufficientStock)
	require.Equal(t, refused, s.requireProblem(t, e, problem.InsufficientStock), "the refusal is stored")
	s.requireUntouched(t)
	e.name, e.body = "two", change("adjust", -10)
	for range 2 {
		level := decoded[publicapi.Stock](t, s.do(t, e))
		require.Equal(t, publicapi.Stock{SKU: s.sku, Location: "main", Version: 2}, level)
	}
	e.name = ""
	for range 3 {
		e.body = strings.Replace(change("restock", 1_000_000_000), "main", "cellar", 1)
		require.Equal(t, http.StatusOK, s.do(t, e).Code)
	}
	levels := decoded[publicapi.StockLevels](t, s.read(t, s.stockPath())).Stock
	require.Len(t, levels, 2)
	require.Equal(t, int64(3_000_000_000), levels[0].OnHand)
	e.path = skus + "/" + absent.String() + "/stock"
	s.requireProblem(t, e, problem.NotFound)
}

func TestACodeNamesOneSKUAlsoWhenManyAskAtOnce(t *testing.T) {
	t.Parallel()
	s := setupShop(t)
	var group sync.WaitGroup
	answers := make([]answer, 8)
	for i := range answers {
		group.Go(func() { answers[i] = s.post(t, skus, goodSKU) }) // the shop has it already
	}
	group.Wait()
	for _, a := range answers {
		require.Equal(t, string(problem.SKUCodeUsed), a.problem(t).Code)
	}
	seen, path := 0, skus+"?limit=1"
	s.makeSKU(t, "tea-250", 700, "EUR")
	for path != "" {
		a := s.read(t, path)
		seen, path = seen+len(decoded[publicapi.SKUPage](t, a).Skus), ""
		if link := nextLink.FindStringSubmatch(a.Header().Get("Link")); link != nil {
			path = link[1]
		}
	}
	require.Equal(t, 2, seen)
}

func TestAnotherTenantSeesAndUsesNothingOfAShop(t *testing.T) {
	t.Parallel()
	s := setupShop(t)
	placed := decoded[publicapi.Order](t, s.post(t, orders, s.order())).ID
	for _, e := range []exchange{
		{method: get, path: "/v1/orders/%s"},
		{method: get, path: "/v1/orders/%s/events"},
		{method: post, path: "/v1/orders/%s/cancel"},
		{method: get, path: "/v1/skus/%s"},
		{method: get, path: "/v1/skus/%s/stock"},
		{method: post, path: "/v1/skus/%s/stock", body: goodStock},
		{method: post, path: "/v1/slots/%s/close"},
	} {
		id := placed
		switch {
		case strings.HasPrefix(e.path, skus):
			id = s.sku
		case strings.HasPrefix(e.path, slots):
			id = s.slot
		}
		ask := func(id uuid.UUID) string {
			theirs := exchange{method: e.method, path: fmt.Sprintf(e.path, id), key: s.other, body: e.body}
			return strings.ReplaceAll(s.requireProblem(t, theirs, problem.NotFound).Detail, id.String(), "ID")
		}
		require.Equal(t, ask(absent), ask(id), e.path)
	}
	stranger := s.placing(s.order())
	stranger.key = s.other
	s.requireProblem(t, stranger, problem.SKUNotFound)
	for path, empty := range map[string]string{orders: "orders", skus: "skus", slots: "slots"} {
		a := s.do(t, exchange{method: get, path: path, key: s.other})
		require.JSONEq(t, `{"`+empty+`":[]}`, a.text)
	}
	require.Equal(t, publicapi.OrderStatusPending,
		decoded[publicapi.Order](t, s.read(t, orders+"/"+placed.String())).Status)
}

func TestFiftyCallersWithOneKeyPlaceOneOrder(t *testing.T) {
	t.Parallel()
	s := setupShop(t)
	var group sync.WaitGroup
	answers := make([]answer, 50)
	e := s.placing(s.order())
	for i := range answers {
		group.Go(func() { answers[i] = s.do(t, e) })
	}
	group.Wait()
	fresh := 0
	for _, a := range answers {
		require.Equal(t, http.StatusAccepted, a.Code, a.text)
		require.Equal(t, answers[0].text, a.text)
		if a.Header().Get("Idempotent-Replayed") == "" {
			fresh++
		}
	}
	require.Equal(t, 1, fresh)
	require.Len(t, decoded[publicapi.OrderPage](t, s.read(t, orders)).Orders, 1)
}
